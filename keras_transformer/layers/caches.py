"""Writing into a cache at a position that only the graph knows.

Keras's `slice_update` is an op of XLA where TensorFlow is the backend, and a TensorFlow Serving
that was not told to compile can't run it. So TensorFlow scatters rows instead, and uses slices
where they are better: inside of what XLA compiles, and in LiteRT, which writes them in place.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import keras
from keras import ops

from keras_transformer.typing import Tensor

_by_slices = contextvars.ContextVar("by_slices", default=keras.backend.backend() != "tensorflow")


@contextlib.contextmanager
def writing_slices() -> Iterator[None]:
    """Write by `slice_update` in graphs that are traced inside the block."""
    token = _by_slices.set(True)
    try:
        yield
    finally:
        _by_slices.reset(token)


def write(x: Tensor, new: Tensor, index: Tensor) -> Tensor:
    """Replace a part of a tensor along axis 2.

    Args:
        x: Tensor `(B, H, L, ...)`.
        new: Tensor `(B, H, n, ...)`, whose other axes are those of `x`.
        index: Integer scalar: where `new` begins. All of it has to fit.

    Returns:
        Tensor of the shape of `x`.
    """
    if _by_slices.get():
        return ops.slice_update(x, (0, 0, index, *[0] * (len(x.shape) - 3)), new)
    shape, tail = ops.shape(x), tuple(x.shape[3:])
    first = ops.arange(shape[0] * shape[1], dtype="int32") * shape[2] + index
    rows = ops.expand_dims(first, 1) + ops.arange(ops.shape(new)[2], dtype="int32")
    flat = ops.scatter_update(
        ops.reshape(x, (-1, *tail)), ops.reshape(rows, (-1, 1)), ops.reshape(new, (-1, *tail))
    )
    return ops.reshape(flat, shape)
