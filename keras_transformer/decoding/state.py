"""The state of a search, field by field.

A state is a dict of tensors, so that it can go through a loop of any backend and, taken apart by
name, out of a graph and back (`pipelines.streaming`).

Shapes: B batch, K hypotheses of a source, N targets of a source, P length of a prefix, S source
length, T the longest target allowed.
"""

from typing import NotRequired, TypedDict

from keras_transformer.typing import Bias, Cache, Hypotheses, Ids, Mask, Nested, Size, Tensor


class ModelCache(TypedDict):
    """The `cache` of a search over a model's decoder, which the model reads at each step.

    Attributes:
        target: Keys and values of what was written, for each block two float tensors
            `(B, H, slots, d_k)`.
        memory_bias: Float32 `(B, 1, S)`, which hides the padding of the source.
        memory: Keys and values of the source, for each block two float tensors `(B, H, S, d_k)`.
    """

    target: Cache
    memory_bias: Bias
    memory: Cache


class Beginning(TypedDict):
    """The arguments of `Search.run` and of `Search.start`.

    Attributes:
        cache: The cache of an empty target.
        limits: Int32 `(B,)`: the greatest number of tokens of each row, the end token included.
        max_length: Integer scalar T, at least the largest limit.
        finished: Bool `(B,)`, True for rows that are to stay empty; None for none.
        first: Int32 `(B,)`: the token that each row goes on from; None for the begin token.
        prefix: Int32 `(B, P)`: tokens that each target has to begin with, padded; None for none.
        seeds: Int32 `(B,)`: what the draws of each row depend on; None where none are drawn.
    """

    cache: ModelCache
    limits: Tensor
    max_length: Size
    finished: Tensor | None
    first: Tensor | None
    prefix: Ids | None
    seeds: Tensor | None


class Rows(TypedDict):
    """The tensors of rows; axis 0 of each is the batch.

    Attributes:
        cache: Tensors, nested at will; axis 2 may be slots. Over a model's decoder, a `ModelCache`.
        limits: Int32 `(B,)`: the greatest number of tokens of each row, the end token included.
        seeds: Int32 `(B,)`: what the draws of each row depend on; zeros where none are drawn.
        last: Int32 `(B, K)`: the newest token of each hypothesis.
        ids: Int32 `(B, K, T)`: the hypotheses so far, padded.
        done: Bool `(B,)`: whether nothing of a row will change any more.
        prefix: Int32 `(B, P)`: tokens that each target has to begin with, padded; missing where
            there are none.
        scores: Float32 `(B, K)`: the sum of each hypothesis's log-probabilities. The method adds
            it, and what follows, when the search starts.
        ended: Bool `(B, K)`: whether a hypothesis has ended. Greedy search and sampling.
        ended_ids: Int32 `(B, N, T)`: the best targets that have ended, padded. Beam search.
        ended_scores: Float32 `(B, N)`: their scores, divided by the length penalty. Beam search.
        visible: Bool `(B, K, slots)`: which slots of the cache hold a hypothesis's own past. Beam
            search.
    """

    cache: Nested
    limits: Tensor
    seeds: Tensor
    last: Tensor
    ids: Hypotheses
    done: Tensor
    prefix: NotRequired[Ids]
    scores: NotRequired[Tensor]
    ended: NotRequired[Tensor]
    ended_ids: NotRequired[Hypotheses]
    ended_scores: NotRequired[Tensor]
    visible: NotRequired[Mask]


class SearchState(TypedDict):
    """The state between two steps.

    Attributes:
        index: Int32 scalar: the position of the newest tokens, 0 before the first step.
        slots: Int32 `(slots,)`: 0, 1, ..., a number for each slot that caches have.
        rows: What belongs to rows.
    """

    index: Tensor
    slots: Tensor
    rows: Rows


class Round(TypedDict):
    """The state between two rounds, in which finished rows leave the batch.

    Attributes:
        search: The state of the rows that are still in the batch.
        places: Int32 `(B,)`: which rows of the whole batch these are.
        ids: Int32 `(B, N, T)`, of the whole batch: the targets of rows that have left it, and those
            of the others as they were at the last round's end.
        scores: Float32 `(B, N)`: their scores.
    """

    search: SearchState
    places: Tensor
    ids: Hypotheses
    scores: Tensor
