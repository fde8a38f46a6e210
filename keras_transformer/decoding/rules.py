"""Rules: which tokens may not follow, and which must.

Shapes: B batch, K hypotheses of a source, T the longest target allowed, V vocabulary.
"""

import numpy as np
from keras import ops

from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.typing import Hypotheses, Ids, Logits, Size, Tensor

# Added to the score of what may not be. Finite, so that nothing becomes NaN, and far below any real
# score, yet far enough from the lowest float32 that a few of them can be added up.
DEAD = np.float32(-1e30)  # a float32 whatever Keras's default is


class Rules:
    """Changes the scores of tokens before a search chooses among them.

    Args:
        options: `GenerationOptions`.
        begin_id: Token that begins every target. It is never produced, unless it is the end.
        end_id: Token that ends a target.
        padding_id: Token that fills up short rows. It is never produced, unless it is the end.
    """

    def __init__(
        self, options: GenerationOptions, begin_id: int, end_id: int, padding_id: int
    ) -> None:
        self.options = options
        self.begin_id = begin_id
        self.end_id = end_id
        self.padding_id = padding_id
        self.never = {begin_id, padding_id} - {end_id}

    def apply(
        self,
        logits: Logits,
        normaliser: Tensor,
        ids: Hypotheses,
        index: Tensor,
        prefix: Ids | None = None,
    ) -> Logits:
        """Return the logits with those of forbidden tokens lowered by about 1e30.

        Args:
            logits: Float32 tensor `(B, K, V)`.
            normaliser: Float32 tensor `(B, K, 1)`: what turns a logit into a log-probability when
                it is subtracted.
            ids: Int32 tensor `(B, K, T)`, the hypotheses so far.
            index: Integer scalar, their length.
            prefix: Int32 tensor `(B, P)`, tokens that the targets have to begin with, padded; or
                None.
        """
        options = self.options
        allowed = logits
        if options.repetition_penalty != 1:
            penalised = normaliser + (logits - normaliser) * options.repetition_penalty
            allowed = ops.where(self._mark(ids, logits), penalised, allowed)
        allowed = allowed + self._ban(logits, *self.never)
        if options.no_repeat_ngram:
            repeated = self._mark(self._would_repeat(ids, index), logits)
            allowed = ops.where(repeated, DEAD, allowed)
        if options.min_length > 1:
            longer = allowed + self._ban(logits, self.end_id)
            too_short = index + 1 < options.min_length
            # Where nothing else may follow, the target ends all the same.
            possible = ops.max(longer, axis=-1, keepdims=True) > DEAD / 2
            allowed = ops.where(ops.logical_and(too_short, possible), longer, allowed)
        if prefix is not None:
            allowed = self._force(allowed, logits, prefix, index)
        return allowed

    def _ban(self, logits: Logits, *tokens: int) -> Tensor:
        """Return a constant `(V,)` that takes tokens out of the choice when it is added."""
        ban = np.zeros(logits.shape[-1], dtype="float32")
        ban[list(tokens)] = DEAD
        return ops.convert_to_tensor(ban)

    def _mark(self, ids: Hypotheses, logits: Logits) -> Tensor:
        """Return which tokens occur in `ids` `(B, K, M)`: boolean `(B, K, V)`; padding does not."""
        hypotheses, vocabulary = logits.shape[1], logits.shape[2]
        rows = ops.arange(ops.shape(ids)[0] * hypotheses, dtype="int32")
        flat = ops.reshape(ids, (-1, ops.shape(ids)[2]))
        places = ops.reshape(flat + ops.expand_dims(rows, 1) * vocabulary, (-1, 1))
        real = ops.reshape(ops.cast(flat != self.padding_id, "float32"), (-1,))
        size = ops.shape(ids)[0] * hypotheses * vocabulary
        counts = ops.scatter(places, real, ops.stack([size]) if not _known(size) else (size,))
        return ops.reshape(counts, (-1, hypotheses, vocabulary)) > 0

    def _would_repeat(self, ids: Hypotheses, index: Tensor) -> Hypotheses:
        """Return the tokens that would complete an n-gram again: `(B, K, T)`, padded."""
        n = self.options.no_repeat_ngram
        length = ops.shape(ids)[2]
        match = ops.arange(length, dtype="int32") < index  # of the n-gram's last token
        for back in range(1, n):  # the token `back` places before it against the newest tokens
            newest = ops.take(ids, ops.maximum(index - back, 0), axis=2)  # (B, K)
            shifted = ops.pad(ids, ((0, 0), (0, 0), (back, 0)), constant_values=self.padding_id)
            before = shifted[:, :, :length] if _known(length) else _first(shifted, length)
            match = ops.logical_and(match, before == ops.expand_dims(newest, 2))
        # With fewer than n - 1 tokens there is nothing to complete.
        match = ops.logical_and(match, index >= n - 1)
        return ops.where(match, ids, self.padding_id)

    def _force(self, allowed: Logits, logits: Logits, prefix: Ids, index: Tensor) -> Logits:
        """Leave only the prefix's token where there is one for this position."""
        length = ops.shape(prefix)[1]
        prefix = ops.pad(
            prefix, ((0, 0), (0, 1)), constant_values=self.padding_id
        )  # it may be empty
        wanted = ops.take(prefix, ops.minimum(index, length), axis=1)  # (B,)
        forced = wanted != self.padding_id
        tokens = ops.arange(logits.shape[-1], dtype="int32")
        only = ops.where(ops.expand_dims(wanted, 1) == tokens, 0.0, DEAD)  # (B, V)
        only = ops.expand_dims(only, 1) + logits  # even a token that the other rules forbid
        return ops.where(ops.reshape(forced, (-1, 1, 1)), only, allowed)


def _known(size: Size) -> bool:
    return isinstance(size, int)


def _first(x: Tensor, length: Size) -> Tensor:
    """Return x[:, :, :length], by an op that LiteRT has for a length known only at run time."""
    return ops.slice(x, (0, 0, 0), (*ops.shape(x)[:2], length))
