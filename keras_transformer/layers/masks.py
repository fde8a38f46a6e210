"""Masks: boolean tensors in which True means "may attend".

Three facts decide what a position may attend to, and each has its own mask: padding of the
source (encoder self-attention and cross-attention), order of the target (decoder
self-attention), and, while decoding, how much of the cache has been written.
"""

import numpy as np
from keras import ops

from keras_transformer.typing import Bias, Ids, Mask, Size, Tensor

LOWEST = float(np.finfo("float32").min)


def padding_mask(ids: Ids, padding_id: int = 0) -> Mask:
    """Return which positions hold a real token.

    Args:
        ids: Integer tensor `(B, S)`.
        padding_id: The id that fills up short rows.

    Returns:
        Boolean tensor `(B, S)`, True at real tokens.
    """
    return ops.not_equal(ids, padding_id)


def causal_mask(length: Size) -> Mask:
    """Let each position attend to itself and to what came before.

    The diagonal is included: inputs are shifted right by one, so position t holds token t - 1 and
    may be seen when token t is predicted.

    Args:
        length: Integer T.

    Returns:
        Boolean tensor `(1, T, T)`, True where key <= query.
    """
    positions = ops.arange(length, dtype="int32")
    return ops.expand_dims(ops.expand_dims(positions, 1) >= ops.expand_dims(positions, 0), 0)


def cache_mask(index: Tensor, length: Size) -> Mask:
    """Let the query at `index` attend to the part of a cache that has been written.

    Args:
        index: Integer scalar, the position written last.
        length: Integer S, how many positions the cache holds.

    Returns:
        Boolean tensor `(1, 1, S)`, True up to and including `index`: row `index` of `causal_mask`.
    """
    return ops.reshape(ops.arange(length, dtype="int32") <= index, (1, 1, -1))


def attend_to(mask: Mask) -> Mask:
    """Turn a padding mask `(B, S)` into an attention mask `(B, 1, S)`, the same for all queries."""
    return ops.expand_dims(mask, 1)


def bias_of(mask: Mask) -> Bias:
    """Turn an attention mask into an attention bias: 0 where True, the lowest float32 elsewhere.

    Adding it hides as well as the mask does, and takes one op. A query that may attend to nothing
    gets the mean of all values, where with a mask it gets zeros.
    """
    # In float32 whatever Keras's default is, as scores are.
    return ops.cast(ops.where(mask, 0.0, LOWEST), "float32")
