"""Packing: the tokens of a batch laid end to end, so that no work is done on padding.

Texts of a batch differ in length, and a third of its places may be padding. All that an encoder
does token by token can leave them out; only where tokens see each other rows have to stand side by
side. Heads are split there anyway, and one gather does both: it costs no more than the transposing
that it replaces.

It pays where a graph runs on any shape and nothing is learned: in what is exported from encoders.
"""

import contextlib
import contextvars
from collections.abc import Iterator

from keras_transformer.typing import Mask, Tensor

_wanted = contextvars.ContextVar("wanted", default=False)
_current: contextvars.ContextVar["Packing | None"] = contextvars.ContextVar("current", default=None)
FEW = 64  # up to so many tokens their number is kept; beyond, it is a multiple of 8


@contextlib.contextmanager
def packing_tokens() -> Iterator[None]:
    """Pack in encoders that are traced inside the block, to TensorFlow graphs for inference."""
    token = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(token)


def wanted() -> bool:
    """Return whether encoders are to pack."""
    return _wanted.get()


def current() -> "Packing | None":
    """Return how the tokens that a layer is called with are packed, or None."""
    return _current.get()


class Packing:
    """Where the real tokens of a batch lie, and where they lie when they are packed.

    Args:
        mask: Boolean tensor `(B, S)`, True at real tokens.

    Example:
        packing = Packing(mask)
        with packing.used():
            y = packing.unpack(block(packing.pack(x), attention_bias=bias))
    """

    def __init__(self, mask: Mask) -> None:
        import tensorflow as tf  # not Keras's `take`, which looks for negative indices each time

        self._tf = tf
        self._shape = tf.shape(mask)
        flat = tf.reshape(mask, [-1])
        rows = tf.cast(tf.where(flat)[:, 0], tf.int32)
        # Kernels are generated for each number of rows, which takes longer than a few more rows.
        count = tf.shape(rows)[0]
        more = tf.where(count > FEW, -count % 8, 0)
        self._rows = tf.pad(rows, [[0, more]])  # (N,), of the flat batch
        # A place without a token gets the token before it, which a mask has to hide.
        before = tf.cumsum(tf.cast(flat, tf.int32)) - 1
        self._places = tf.reshape(tf.maximum(before, 0), self._shape)  # (B, S), of what is packed
        self._splits: dict[int, Tensor] = {}
        self._joins: dict[int, Tensor] = {}

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Let layers that are called inside the block know."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def pack(self, x: Tensor) -> Tensor:
        """Leave out the padding: `(B, S, D)` -> `(N, D)`; N is at least the number of tokens."""
        return self._tf.gather(self._tf.reshape(x, [-1, x.shape[-1]]), self._rows)

    def unpack(self, x: Tensor) -> Tensor:
        """Put tokens back where they were: `(N, D)` -> `(B, S, D)`; padding becomes anything."""
        return self._tf.gather(x, self._places)

    def split_heads(self, x: Tensor, heads: int) -> Tensor:
        """Put tokens back and split the heads: `(N, H * d_k)` -> `(B, H, S, d_k)`."""
        tf = self._tf
        if heads not in self._splits:
            own = tf.reshape(tf.range(heads), [1, heads, 1])
            self._splits[heads] = tf.expand_dims(self._places, 1) * heads + own  # (B, H, S)
        return tf.gather(tf.reshape(x, [-1, x.shape[-1] // heads]), self._splits[heads])

    def join_heads(self, x: Tensor) -> Tensor:
        """Join the heads and pack: `(B, H, S, d_k)` -> `(N, H * d_k)`."""
        tf = self._tf
        heads, width = x.shape[1], x.shape[3]
        if heads not in self._joins:
            length = self._shape[1]
            row, place = self._rows // length, self._rows % length
            own = tf.expand_dims(row * heads, 1) + tf.expand_dims(tf.range(heads), 0)
            self._joins[heads] = own * length + tf.expand_dims(place, 1)  # (N, H)
        joined = tf.gather(tf.reshape(x, [-1, width]), self._joins[heads])
        return tf.reshape(joined, [-1, heads * width])
