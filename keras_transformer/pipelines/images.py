"""Pictures as numbers: decoding, resizing and scaling, in the graph.

Shapes: B batch, h height, w width, c channels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_transformer.errors import InputError
from keras_transformer.typing import Strings, Tensor

MEAN = STD = 0.5  # pixels from 0 to 1 become numbers from -1 to 1
_GREY = 0.299, 0.587, 0.114  # how bright red, green and blue are (ITU-R BT.601)


def decode_images(image: Strings, size: int, channels: int = 3) -> Tensor:
    """Decode pictures and give them one size, whatever shape they had.

    Args:
        image: String tensor `(B,)`, the bytes of PNG, JPEG, BMP or GIF, of which the first picture
            is taken. Transparency is left out, and so is the turn that a camera notes in EXIF.
        size: Height and width of the result.
        channels: 3 for colours, 1 for grey; pictures of the other kind are converted.

    Returns:
        Float32 tensor `(B, size, size, channels)` from 0 to 255, resized bilinearly with
        antialiasing.

    Raises:
        InputError: If `channels` is neither.
        tensorflow.errors.InvalidArgumentError: If a string is no such picture.
    """
    if channels not in (1, 3):
        raise InputError(f"Pictures have 1 or 3 channels, and this model takes {channels}.")

    def decode(data: Tensor) -> Tensor:
        kind = tf.strings.substr(data, 0, 2)
        # Their decoders give what is in the file; the others convert, palettes included.
        own = tf.logical_or(tf.equal(kind, "BM"), tf.equal(kind, "GI"))
        pixels = tf.cond(
            own,
            lambda: _converted(tf.io.decode_image(data, expand_animations=False), channels),
            lambda: tf.io.decode_image(data, channels, expand_animations=False),
        )
        pixels.set_shape([None, None, channels])
        return tf.image.resize(tf.cast(pixels, tf.float32), [size, size], antialias=True)

    shape = tf.TensorSpec([size, size, channels], tf.float32)
    return tf.map_fn(decode, image, fn_output_signature=shape)


def _converted(pixels: Tensor, channels: int) -> Tensor:
    """Make uint8 `(h, w, 1, 3 or 4)` one of 1 or 3 channels."""
    pixels = pixels[:, :, :3]
    few = tf.equal(tf.shape(pixels)[2], 1)
    if channels == 3:
        return tf.cond(few, lambda: tf.tile(pixels, [1, 1, 3]), lambda: pixels)
    return tf.cond(few, lambda: pixels, lambda: _grey(pixels))


def _grey(pixels: Tensor) -> Tensor:
    bright = tf.reduce_sum(tf.cast(pixels, tf.float32) * tf.constant(_GREY), 2, keepdims=True)
    return tf.cast(tf.round(bright), tf.uint8)


def read_pictures(paths: Sequence[Path | str], size: int, channels: int = 3) -> np.ndarray:
    """Read files as `decode_images` decodes them.

    Args:
        paths: The files.
        size: Height and width of the result.
        channels: 3 or 1.

    Returns:
        Float32 array `(B, size, size, channels)` from 0 to 255.

    Raises:
        InputError: If a file can't be read or is no picture; the message names it.
    """
    pictures = []
    for path in paths:
        try:
            content = Path(path).read_bytes()
        except (OSError, ValueError) as error:
            raise InputError(f"The picture {path} can't be read: {error}") from None
        try:
            pictures.append(decode_images(tf.constant([content]), size, channels).numpy()[0])
        except (tf.errors.InvalidArgumentError, tf.errors.UnknownError):
            raise InputError(f"{path} is not a PNG, JPEG, BMP or GIF, or is damaged.") from None
    return np.stack(pictures) if pictures else np.zeros([0, size, size, channels], np.float32)


def prepare_pixels(
    pixels: Tensor,
    image_mean: float | Sequence[float] = MEAN,
    image_std: float | Sequence[float] = STD,
) -> Tensor:
    """Scale pixels to what a model was trained on; by default to [-1, 1].

    Args:
        pixels: Tensor `(B, h, w, c)` from 0 to 255, of any dtype.
        image_mean: What is taken off pixels from 0 to 1: a number, or one a channel.
        image_std: What they are divided by then.

    Returns:
        Float32 tensor `(B, h, w, c)`.
    """
    scaled = tf.cast(pixels, tf.float32) / 255.0
    return (scaled - tf.constant(image_mean, tf.float32)) / tf.constant(image_std, tf.float32)
