"""Looking up by distance: tensors with a column a distance, for pairs of a query and a key.

Pairs of the same places have the same distance in all rows and heads. So what is looked up is one
line of all rows and heads together, and no index is as large as the scores.
"""

from keras import ops

from keras_transformer.typing import Size, Tensor


def of_pairs(x: Tensor, index: Tensor) -> Tensor:
    """Take for each query and key the column that their distance has.

    Args:
        x: Float tensor `(B, H, T, C)`, a column for each of C distances.
        index: Integer tensor `(1, T, S)`, or `(B, T, S)` if rows differ, in [0, C). Queries at the
            same place, as the hypotheses of a search, may share a row: `(1, 1, S)`, `(B, 1, S)`.

    Returns:
        Float tensor `(B, H, T, S)`.
    """
    _, heads, queries, columns = ops.shape(x)
    batch, _, keys = ops.shape(index)
    x = ops.reshape(x, (batch, -1, queries, columns))  # rows that share distances are like heads
    lines = ops.reshape(ops.transpose(x, (0, 2, 3, 1)), (batch * queries * columns, -1))
    taken = ops.take(lines, _lines_of(index, queries, columns), axis=0)
    taken = ops.reshape(taken, (batch, queries, keys, -1))
    return ops.reshape(ops.transpose(taken, (0, 3, 1, 2)), (-1, heads, queries, keys))


def by_distance(weights: Tensor, index: Tensor, columns: Size) -> Tensor:
    """Sum up weights of the same query and the same distance: `of_pairs` in reverse.

    Args:
        weights: Float tensor `(B, H, T, S)`.
        index: As for `of_pairs`.
        columns: Number of distances C.

    Returns:
        Float tensor `(B, H, T, C)`.
    """
    _, heads, queries, keys = ops.shape(weights)
    batch = ops.shape(index)[0]
    weights = ops.reshape(weights, (batch, -1, queries, keys))
    lines = ops.reshape(ops.transpose(weights, (0, 2, 3, 1)), (batch * queries * keys, -1))
    count = batch * queries * columns
    sums = ops.segment_sum(lines, _lines_of(index, queries, columns), num_segments=count)
    sums = ops.reshape(sums, (batch, queries, columns, -1))
    return ops.reshape(ops.transpose(sums, (0, 3, 1, 2)), (-1, heads, queries, columns))


def _lines_of(index: Tensor, queries: Size, columns: Size) -> Tensor:
    """Number the pairs' lines in `(B, T, C)` flattened: one after another for each query."""
    batch = ops.shape(index)[0]
    first = ops.reshape(ops.arange(batch * queries, dtype="int32") * columns, (batch, queries, 1))
    return ops.reshape(first + ops.cast(index, "int32"), (-1,))
