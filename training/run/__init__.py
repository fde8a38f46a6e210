"""The run folder: its configuration, checkpoints and weights."""

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)
