"""Search: from a function that scores the next token to whole sequences.

A search knows no model. It runs over `step(ids, cache, index, visible) -> (logits, cache)` and is
written in `keras.ops`, so that the same code runs eagerly, inside a SavedModel and inside a
`.tflite`. Greedy search, sampling and beam search differ in what they do with a step's logits
(`independent.py`, `beam.py`); the loop is the same.

Shapes: B batch, K hypotheses of a source, N targets of a source, T the longest target allowed,
V vocabulary.
"""

from collections.abc import Callable
from typing import Any

from keras import ops, tree

from keras_transformer.artefacts.generation_options import GREEDY, GenerationOptions
from keras_transformer.decoding.beam import BeamSearch
from keras_transformer.decoding.independent import Independent, take_likeliest
from keras_transformer.decoding.loops import (
    SHAPES_MAY_CHANGE,
    compiled,
    while_loop,
)
from keras_transformer.decoding.rules import Rules
from keras_transformer.decoding.sampling import Sampler
from keras_transformer.decoding.state import Round, Rows, SearchState
from keras_transformer.typing import Hypotheses, Ids, Logits, Nested, Size, Tensor

ROOM = 16  # positions that caches grow by
COMPILED_ROOM = 32  # the same under XLA, where every size is compiled


class Search:
    """Generates targets token by token.

    Rows finish on their own and then stop costing: from time to time the rows that have finished
    are left out of the batch, while caches, which are allocated for a few positions at a time, get
    more room. On backends that compile for fixed shapes, rows stay and caches have all of their
    room from the start.

    Args:
        step: Function of `ids` `(B, K)`, the newest token of each hypothesis; `cache`; `index`, an
            integer scalar, their position; and `visible`, a boolean tensor `(B, K, slots)` or
            `(1, K, slots)`: which slots of the cache hold a hypothesis's own past. Slot
            `index * K + k` belongs to hypothesis k at this position. Returns logits `(B, K, V)` of
            the tokens that follow, and the new cache.
        options: `GenerationOptions`. `max_length` has no part in it; the limits have.
        begin_id: Token that every hypothesis starts from. It is never produced.
        end_id: Token that ends a hypothesis.
        padding_id: Token that fills up what has ended. It is never produced.
        make_room: Function of `cache` and `slots`, an integer scalar, that returns a cache with so
            many more slots.
        jit_compile: Whether steps are compiled by XLA, once for each shape. So that there are few
            of them, the number of rows left in the batch is then always a power of two; the batch
            has to begin with such a number. TensorFlow only; other backends always compile.

    The `cache` is made of tensors, nested at will, whose axis 0 is the batch. Slots may be axis 2.
    """

    def __init__(
        self,
        step: Callable[..., tuple[Logits, Nested]],
        begin_id: int,
        end_id: int,
        padding_id: int = 0,
        options: GenerationOptions = GREEDY,
        make_room: Callable[[Any, Any], Nested] = lambda cache, slots: cache,
        jit_compile: bool = False,
    ) -> None:
        self.step = step
        self.begin_id = begin_id
        self.padding_id = padding_id
        self.make_room = make_room
        self.rules = Rules(options, begin_id, end_id, padding_id)
        self.method: BeamSearch | Independent
        if options.beam_size > 1:
            self.method = BeamSearch(options, end_id, padding_id)
        else:
            choose = Sampler(options) if options.samples else take_likeliest
            self.method = Independent(options.width, choose, end_id, padding_id)
        self.width = options.width
        self.jit_compile = jit_compile

    def run(
        self,
        cache: Nested,
        limits: Tensor,
        max_length: Size,
        finished: Tensor | None = None,
        prefix: Ids | None = None,
        seeds: Tensor | None = None,
        first: Tensor | None = None,
    ) -> tuple[Hypotheses, Tensor]:
        """Generate until every row has finished.

        Args:
            cache: The cache of an empty target.
            limits: Integer tensor `(B,)`: the greatest number of tokens for each row, the end token
                included.
            max_length: Integer scalar T, at least the largest limit.
            finished: Boolean tensor `(B,)`, True for rows that are to stay empty; None for none.
            prefix: Int32 tensor `(B, P)`: tokens that each target has to begin with, padded.
            seeds: Int32 tensor `(B,)`: what the draws of each row depend on.
            first: Int32 tensor `(B,)`: the token that each row goes on from, in place of
                `begin_id`.

        Returns:
            Tuple of the ids `(B, N, T)`, int32, without the begin token, ended by `end_id` where a
            target came to its end and filled up with `padding_id`; and the scores `(B, N)`,
            float32, best first. Where beam search finds fewer than N, the rest are empty and score
            minus infinity.
        """
        state = self.start(cache, limits, max_length, finished, prefix, seeds, first)
        if not SHAPES_MAY_CHANGE:
            state = self.grow(state, max_length)
            state = self._advance_while(state, max_length, lambda done: ops.any(~done))
            ids, scores = self.method.results(state["rows"])
        else:
            ids, scores = self._run_in_rounds(state, max_length)
        return ids, self.method.final_scores(scores)

    def start(
        self,
        cache: Nested,
        limits: Tensor,
        max_length: Size,
        finished: Tensor | None = None,
        prefix: Ids | None = None,
        seeds: Tensor | None = None,
        first: Tensor | None = None,
    ) -> SearchState:
        """Return the state before the first step: `index`, `slots` and what belongs to rows."""
        limits = ops.cast(limits, "int32")
        batch = ops.shape(limits)[0]
        done = limits <= 0
        if finished is not None:
            done = ops.logical_or(done, finished)
        last = ops.full((batch, self.width), self.begin_id, dtype="int32")
        if first is not None:
            last = ops.zeros_like(last) + ops.expand_dims(ops.cast(first, "int32"), 1)
        rows: Rows = {
            "cache": cache,
            "limits": limits,
            "seeds": ops.zeros_like(limits) if seeds is None else seeds,
            "last": last,
            "ids": ops.full((batch, self.width, max_length), self.padding_id, dtype="int32"),
            "done": done,
        }
        if prefix is not None:
            rows["prefix"] = ops.cast(prefix, "int32")
        return {
            "index": ops.convert_to_tensor(0, dtype="int32"),
            "slots": ops.arange(0, dtype="int32"),  # their numbers
            "rows": self.method.start(rows, done),
        }

    def grow(self, state: SearchState, positions: Size) -> SearchState:
        """Give the caches room for more positions."""
        rows, more = state["rows"], positions * self.width
        rows = {**rows, "cache": self.make_room(rows["cache"], more)}
        if "visible" in rows:
            new = ops.zeros((*ops.shape(rows["visible"])[:2], more), dtype="bool")
            rows["visible"] = ops.concatenate([rows["visible"], new], axis=2)
        slots = ops.arange(ops.shape(state["slots"])[0] + more, dtype="int32")
        return {**state, "rows": rows, "slots": slots}

    def advance(self, state: SearchState) -> SearchState:
        """Run one step, and take its tokens."""
        rows, index = state["rows"], state["index"]
        visible = self.method.visible(rows, index, state["slots"])
        logits, cache = self.step(rows["last"], rows["cache"], index, visible)
        logits = ops.cast(logits, "float32")
        normaliser = _log_sum_exp(logits)
        allowed = self.rules.apply(logits, normaliser, rows["ids"], index, rows.get("prefix"))
        rows = {**rows, "cache": cache}
        if "visible" in rows:
            rows["visible"] = visible
        rows = self.method.advance(rows, allowed, normaliser, index)
        return {**state, "rows": rows, "index": index + 1}

    def _advance_while(
        self, state: SearchState, until: Size, condition: Callable[[Tensor], Tensor]
    ) -> SearchState:
        """Take steps while there is room and `condition` of the rows that are done holds."""

        def go_on(state: SearchState) -> Tensor:
            return ops.logical_and(state["index"] < until, condition(state["rows"]["done"]))

        return while_loop(go_on, self.advance, state)

    def _run_in_rounds(self, state: SearchState, max_length: Size) -> tuple[Hypotheses, Tensor]:
        """Take steps until room is short or many rows are done; mend both; and so on."""
        batch = ops.shape(state["rows"]["done"])[0]
        ids, scores = self.method.results(state["rows"])
        start: Round = {
            "search": state,
            "places": ops.arange(batch, dtype="int32"),  # of the rows in the batch as it was
            "ids": ids,
            "scores": scores,
        }

        def unfinished(state: Round) -> Tensor:
            some = ops.any(ops.logical_not(state["search"]["rows"]["done"]))
            return ops.logical_and(some, state["search"]["index"] < max_length)

        growth = COMPILED_ROOM if self.jit_compile else ROOM

        def worth_it(done: Tensor) -> Tensor:
            # A round ends when letting go of rows makes the batch smaller by a quarter.
            left = ops.sum(ops.cast(ops.logical_not(done), "int32"))
            smaller = 4 * self._round_up(left) <= 3 * ops.shape(done)[0]
            return ops.logical_and(left > 0, ops.logical_not(smaller))

        def take_steps(search: SearchState, until: Size) -> SearchState:
            return self._advance_while(search, until, worth_it)

        if self.jit_compile:
            take_steps = compiled(take_steps)

        def go_round(state: Round) -> Round:
            search = state["search"]
            left = self._rows_left(search["rows"]["done"])
            rows = tree.map_structure(lambda x: ops.take(x, left, axis=0), search["rows"])
            places = ops.take(state["places"], left, axis=0)
            room = ops.shape(search["slots"])[0] // self.width
            full = ops.cast(search["index"] >= room, "int32")
            search = self.grow({**search, "rows": rows}, full * growth)
            search = take_steps(search, ops.minimum(room + full * growth, max_length))
            ids, scores = self.method.results(search["rows"])
            there = ops.expand_dims(places, 1)
            return {
                "search": search,
                "places": places,
                "ids": ops.scatter_update(state["ids"], there, ids),
                "scores": ops.scatter_update(state["scores"], there, scores),
            }

        end = while_loop(unfinished, go_round, start)
        return end["ids"], end["scores"]

    def _rows_left(self, done: Tensor) -> Tensor:
        """Return the numbers of the rows that stay in the batch."""
        done = ops.cast(done, "int32")
        rows = ops.shape(done)[0]
        count = ops.minimum(self._round_up(rows - ops.sum(done)), rows)
        # Those that are not done come first, in their order; some that are done may fill up.
        return ops.slice(ops.cast(ops.argsort(done), "int32"), (0,), ops.reshape(count, (1,)))

    def _round_up(self, rows: Tensor) -> Tensor:
        """Return one of a few numbers of rows: for each, kernels are generated or compiled."""
        powers = power_of_two(rows)
        return powers if self.jit_compile else ops.where(rows > 8, (rows + 7) // 8 * 8, powers)


def power_of_two(number: Tensor) -> Tensor:
    """Return the least power of two that is not below an integer tensor."""
    powers = ops.convert_to_tensor([2**i for i in range(31)], dtype="int32")
    return ops.min(ops.where(powers >= number, powers, powers[-1]))


def _log_sum_exp(logits: Logits) -> Tensor:
    """Compute the logarithm of the sum of exponentials over the last axis, which is kept."""
    largest = ops.max(logits, axis=-1, keepdims=True)
    return largest + ops.log(ops.sum(ops.exp(logits - largest), axis=-1, keepdims=True))
