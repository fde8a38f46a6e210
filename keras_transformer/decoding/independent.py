"""Greedy search and sampling: hypotheses that go their own ways.

Shapes: B batch, K hypotheses of a source, T the longest target allowed, V vocabulary.
"""

from collections.abc import Callable

from keras import ops

from keras_transformer.decoding.rules import DEAD
from keras_transformer.decoding.state import Rows
from keras_transformer.decoding.tensors import append, gather_hypotheses, likeliest
from keras_transformer.typing import Hypotheses, Logits, Mask, Tensor


def take_likeliest(logits: Logits, seeds: Tensor, index: Tensor) -> Tensor:
    """Choose the token with the highest logit; of equal ones the lower id.

    Args:
        logits: Float32 tensor `(B, K, V)`.
        seeds: Not used.
        index: Not used.

    Returns:
        Int32 tensor `(B, K)`.
    """
    return likeliest(logits)


class Independent:
    """A search in which every hypothesis is continued by one token, and none is given up.

    Args:
        width: Number of hypotheses K of each source.
        choose: Function of logits `(B, K, V)`, seeds `(B,)` and the position, that returns one
            token for each hypothesis `(B, K)`: `take_likeliest`, or a `Sampler`.
        end_id: Token that ends a hypothesis.
        padding_id: Token that fills up what has ended.
    """

    def __init__(
        self,
        width: int,
        choose: Callable[[Logits, Tensor, Tensor], Tensor],
        end_id: int,
        padding_id: int,
    ) -> None:
        self.width = width
        self.choose = choose
        self.end_id = end_id
        self.padding_id = padding_id

    def start(self, state: Rows, done: Tensor) -> Rows:
        """Add what this search remembers to the state."""
        batch = ops.shape(done)[0]
        return {
            **state,
            "scores": ops.zeros((batch, self.width), dtype="float32"),
            "ended": ops.logical_or(
                ops.expand_dims(done, 1), ops.zeros((1, self.width), dtype="bool")
            ),
        }

    def visible(self, state: Rows, index: Tensor, slots: Tensor) -> Mask:
        """Return what each hypothesis may attend to: its own tokens, boolean `(1, K, slots)`."""
        written = slots < (index + 1) * self.width
        if self.width > 1:
            own = slots % self.width == ops.expand_dims(ops.arange(self.width, dtype="int32"), 1)
            written = ops.logical_and(own, written)  # (K, slots)
        return ops.reshape(written, (1, self.width, -1))

    def advance(self, state: Rows, allowed: Logits, normaliser: Tensor, index: Tensor) -> Rows:
        """Append one token to every hypothesis that has not ended."""
        ended = state["ended"]
        tokens = self.choose(allowed, state["seeds"], index)
        gained = _pick(allowed, tokens) - ops.squeeze(normaliser, -1)
        tokens = ops.where(ended, self.padding_id, tokens)
        at_limit = ops.expand_dims(index + 1 >= state["limits"], 1)
        ended_now = ops.logical_or(ops.logical_or(ended, tokens == self.end_id), at_limit)
        return {
            **state,
            "last": tokens,
            "ids": append(state["ids"], tokens, index),
            "scores": state["scores"] + ops.where(ended, 0.0, gained),
            "ended": ended_now,
            "done": ops.all(ended_now, axis=1),
        }

    def results(self, state: Rows) -> tuple[Hypotheses, Tensor]:
        """Return the ids `(B, K, T)` and scores `(B, K)`, best first."""
        if self.width == 1:
            return state["ids"], state["scores"]
        scores, order = ops.top_k(state["scores"], self.width)
        return gather_hypotheses(state["ids"], order), scores

    def final_scores(self, scores: Tensor) -> Tensor:
        """Return the scores: every target is there."""
        return scores


def _pick(logits: Logits, tokens: Tensor) -> Tensor:
    """Return the logit of one token a hypothesis: `(B, K, V)`, `(B, K)` -> `(B, K)`."""
    vocabulary = logits.shape[-1]
    places = ops.arange(ops.size(tokens), dtype="int32") * vocabulary + ops.reshape(tokens, (-1,))
    picked = ops.take(ops.reshape(logits, (-1,)), places)
    return ops.maximum(ops.reshape(picked, (-1, logits.shape[1])), DEAD)
