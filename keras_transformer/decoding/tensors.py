"""Operations of searches on tensors, by ops that every runtime has."""

import math

from keras import ops

from keras_transformer.layers.caches import write
from keras_transformer.layers.masks import LOWEST
from keras_transformer.typing import Hypotheses, Tensor


def gather_hypotheses(x: Tensor, chosen: Tensor) -> Tensor:
    """Take hypotheses of each source: `x[b, chosen[b, m]]`.

    Args:
        x: Tensor `(B, N, ...)`; N is a known number.
        chosen: Integer tensor `(B, M)` of numbers below N.

    Returns:
        Tensor `(B, M, ...)`.
    """
    count, rest = x.shape[1], ops.shape(x)[2:]
    rows = ops.arange(ops.shape(chosen)[0], dtype="int32") * count
    places = ops.cast(chosen, "int32") + ops.expand_dims(rows, 1)
    return ops.take(ops.reshape(x, (-1, *rest)), places, axis=0)


def append(ids: Hypotheses, tokens: Tensor, index: Tensor) -> Hypotheses:
    """Write one token a hypothesis at position `index`: `(B, K, T)`, `(B, K)` -> `(B, K, T)`."""
    return write(ids, ops.expand_dims(tokens, 2), index)


def likeliest(logits: Tensor) -> Tensor:
    """Return the token with the highest logit, of equal ones the lower id: `(..., V)` -> `(...)`.

    Keras builds argmax from ops that LiteRT lacks, and top_k is slower.
    """
    tokens = ops.arange(logits.shape[-1], dtype="int32")
    highest = ops.max(logits, axis=-1, keepdims=True)
    return ops.min(ops.where(logits == highest, tokens, logits.shape[-1] - 1), axis=-1)


def top_k(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k largest numbers of each row, of equal ones that with the lower index.

    Only the k blocks with the largest maxima can hold them. Finding the maximum of every block
    takes one fast pass; TensorFlow's own op is several times slower, and XLA's sorts the row.

    Args:
        x: Float tensor `(..., V)` of numbers above the lowest float32.
        k: How many.

    Returns:
        Tuple of the numbers `(..., k)`, largest first, and their indices, int32.
    """
    size, shape = x.shape[-1], (-1, *ops.shape(x)[1:-1], k)
    width = math.isqrt(size * k) // k + 1  # as many blocks as there are numbers in k of them
    count = -(-size // width)
    if count <= 2 * k:
        values, indices = ops.top_k(x, k)
        return values, ops.cast(indices, "int32")
    x = ops.reshape(x, (-1, size))
    x = ops.pad(x, ((0, 0), (0, count * width - size)), constant_values=LOWEST)
    blocks = ops.reshape(x, (-1, count, width))
    _, best = ops.top_k(ops.max(blocks, axis=-1), k)
    best = ops.sort(ops.cast(best, "int32"), axis=-1)  # so that the lower index comes first
    numbers = ops.reshape(gather_hypotheses(blocks, best), (-1, k * width))
    values, places = ops.top_k(numbers, k)
    places = ops.cast(places, "int32")
    indices = gather_hypotheses(best, places // width) * width + places % width
    return ops.reshape(values, shape), ops.reshape(indices, shape)
