"""Import Keras and its backend, for the first time, without the noise.

Every subpackage that needs Keras imports this module first, or Keras from here.
"""

import sys

from keras_transformer._quiet import quiet_stderr

if "keras" not in sys.modules:
    with quiet_stderr():
        import keras

        if keras.config.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.list_physical_devices()  # says on a machine without a GPU that it has none

import keras
from keras import ops

__all__ = ["keras", "ops"]
