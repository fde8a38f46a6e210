"""Beam search.

Shapes: B batch, K hypotheses of a source (the beam), N targets wanted, T the longest target
allowed, V vocabulary.
"""

from keras import ops

from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.decoding.rules import DEAD
from keras_transformer.decoding.state import Rows
from keras_transformer.decoding.tensors import append, gather_hypotheses, top_k
from keras_transformer.typing import Hypotheses, Logits, Mask, Tensor


def length_penalty(length: Tensor, exponent: float) -> Tensor:
    """Compute ((5 + n) / 6)^a, which scores are divided by, so that length alone costs less.

    Args:
        length: Integer tensor n, the number of tokens with the end token.
        exponent: The number a; 0 leaves scores as they are.

    Returns:
        Float32 tensor of the same shape.

    Reference: Wu et al. 2016, "Google's Neural Machine Translation System", section 7.
    """
    return ops.power((5.0 + ops.cast(length, "float32")) / 6.0, exponent)


class BeamSearch:
    """A search that follows the K best beginnings at once.

    Live hypotheses and ended ones are kept apart. At each step every live hypothesis is extended by
    every token, the end token among them. Those of the K best extensions that end compete with what
    has ended before for N places, by their scores divided by the length penalty. The K best that do
    not end live on. A hypothesis that reaches the limit has ended there. Of equal scores the
    earlier hypothesis wins, then the lower token.

    An end counts among the K best only, because models give every target, the empty one too, some
    probability to end: it would win whenever all else is long.

    Caches are not reordered when hypotheses change places: keys and values stay in the slot in
    which they were written, and `visible` says for each hypothesis which slots are its own past.

    Args:
        options: `GenerationOptions`.
        end_id: Token that ends a hypothesis.
        padding_id: Token that fills up what has ended.
    """

    def __init__(self, options: GenerationOptions, end_id: int, padding_id: int) -> None:
        self.width = options.beam_size
        self.wanted = options.num_hypotheses
        self.exponent = options.length_penalty
        self.end_id = end_id
        self.padding_id = padding_id

    def start(self, state: Rows, done: Tensor) -> Rows:
        """Add what this search remembers to the state."""
        batch, _, length = ops.shape(state["ids"])
        alone = [0.0] + [DEAD] * (self.width - 1)  # K equal beginnings would stay equal
        # In a row that is to stay empty, nothing lives.
        first = ops.expand_dims(ops.where(done, DEAD, 0.0), 1)
        wanted = ops.zeros((batch, self.wanted, 1), dtype="int32")
        return {
            **state,
            "scores": ops.minimum(first, ops.convert_to_tensor([alone], dtype="float32")),
            "ended_ids": wanted + ops.full((1, 1, length), self.padding_id, dtype="int32"),
            # A row that is to stay empty has one target, of no token.
            "ended_scores": ops.where(
                ops.logical_and(
                    ops.expand_dims(done, 1), ops.arange(self.wanted, dtype="int32") == 0
                ),
                0.0,
                DEAD,
            ),
            "visible": ops.zeros((batch, self.width, 0), dtype="bool"),
        }

    def visible(self, state: Rows, index: Tensor, slots: Tensor) -> Mask:
        """Return what each hypothesis may attend to: its own past, boolean `(B, K, slots)`."""
        own = ops.expand_dims(ops.arange(self.width, dtype="int32") + index * self.width, 1)
        return ops.logical_or(state["visible"], slots == own)

    def advance(self, state: Rows, allowed: Logits, normaliser: Tensor, index: Tensor) -> Rows:
        """End or continue every hypothesis, and keep the best of both kinds."""
        scores, ids, limits = state["scores"], state["ids"], state["limits"]
        length = index + 1
        penalty = length_penalty(length, self.exponent)

        # Whatever is among the 2K best extensions of all hypotheses is among the K + 1 best of its
        # own, or behind K others that go on.
        count = min(self.width + 1, allowed.shape[-1])
        logits, tokens = top_k(allowed, count)  # (B, K, count)
        extended = ops.maximum(ops.expand_dims(scores, 2) + logits - normaliser, DEAD)
        extended = ops.reshape(extended, (-1, self.width * count))
        best_scores, best = ops.top_k(extended, min(2 * self.width, self.width * count))
        best = ops.cast(best, "int32")
        tokens = gather_hypotheses(ops.reshape(tokens, (-1, self.width * count)), best)
        ends = tokens == self.end_id

        ending = ops.where(ends, best_scores, DEAD)[:, : self.width]
        ending_ids = gather_hypotheses(ids, best[:, : self.width] // count)
        end = ops.full_like(tokens[:, : self.width], self.end_id)

        scores, going_on = ops.top_k(ops.where(ends, DEAD, best_scores), self.width)
        parents = gather_hypotheses(best, going_on) // count  # (B, K)
        tokens = gather_hypotheses(tokens, going_on)
        next_ids = append(gather_hypotheses(ids, parents), tokens, index)

        at_limit = ops.expand_dims(length >= limits, 1)
        candidates = ops.concatenate(
            [
                state["ended_scores"],
                _penalise(ending, penalty),
                ops.where(at_limit, _penalise(scores, penalty), DEAD),
            ],
            axis=1,
        )
        candidate_ids = ops.concatenate(
            [state["ended_ids"], append(ending_ids, end, index), next_ids], axis=1
        )
        ended_scores, best = ops.top_k(candidates, self.wanted)
        scores = ops.where(at_limit, DEAD, scores)

        # The search of a row may stop when nothing that can still come belongs among the N. Let s
        # be the score of the best live hypothesis. Log-probabilities are not positive, so that
        # whatever continues it, or any other, scores at most s <= 0. It is divided by a penalty of
        # at least 1 that grows with the length, of which the limit is the greatest. So nothing can
        # exceed s / penalty(limit); and what only equals an ended one comes after it.
        attainable = scores[:, 0] / length_penalty(limits, self.exponent)
        nothing_left = scores[:, 0] <= DEAD / 2
        finished = ops.logical_or(nothing_left, ended_scores[:, -1] >= attainable)
        return {
            **state,
            "last": tokens,
            "ids": next_ids,
            "scores": scores,
            "ended_ids": gather_hypotheses(candidate_ids, best),
            "ended_scores": ended_scores,
            "visible": gather_hypotheses(state["visible"], parents),
            "done": ops.logical_or(state["done"], finished),
        }

    def results(self, state: Rows) -> tuple[Hypotheses, Tensor]:
        """Return the ids `(B, N, T)` and scores `(B, N)`, best first.

        Where a source has fewer than N targets, the rest are empty and score `DEAD`.
        """
        scores = state["ended_scores"]
        real = scores > DEAD / 2
        ids = ops.where(ops.expand_dims(real, 2), state["ended_ids"], self.padding_id)
        return ids, ops.where(real, scores, DEAD)

    def final_scores(self, scores: Tensor) -> Tensor:
        """Turn the scores of targets that are not there into minus infinity.

        Their product is too low for float32. LiteRT's converter makes a finite number of a constant
        minus infinity; and its choices and scatters multiply by 0, which would make it NaN.
        """
        return scores * ops.where(scores > DEAD / 2, 1.0, -DEAD)


def _penalise(scores: Tensor, penalty: Tensor) -> Tensor:
    """Divide real scores by the penalty; dead ones stay dead."""
    return ops.where(scores <= DEAD / 2, DEAD, scores / penalty)
