"""The base of this package's models: `keras.Model`, with an exact training step on TensorFlow."""

import keras

if keras.backend.backend() == "tensorflow":
    from keras_transformer.train_step import Model
else:
    from keras import Model  # type: ignore[no-redef]

__all__ = ["Model"]
