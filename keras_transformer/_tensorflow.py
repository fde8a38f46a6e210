"""TensorFlow, imported without the noise; see `_backend`."""

from keras_transformer import _backend  # noqa: F401  (first)

# isort: split

import tensorflow as tf

__all__ = ["tf"]
