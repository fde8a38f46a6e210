"""Search: from a function that scores the next token to whole sequences.

A search knows no model. It runs over `step(ids, cache, index) -> (logits, cache)` and is written
in `keras.ops`, so that the same code runs eagerly, inside a SavedModel and inside a `.tflite`.

Shapes: B batch, T the longest output allowed, V vocabulary.
"""

import numpy as np
from keras import ops

LOWEST = float(np.finfo("float32").min)


def greedy_search(step, cache, limits, max_length, begin_id, end_id, padding_id=0, finished=None):
    """Take the likeliest token at every step.

    Rows finish on their own: one that has produced `end_id` or reached its limit stays as it is,
    and the loop ends when every row has finished. Of equal tokens the lower id wins.

    Args:
        step: Function of `ids` `(B, 1)`, `cache` and `index`, an integer scalar, that returns
            logits `(B, V)` of the token after position `index`, and the new cache.
        cache: The decoding state that `step` takes and returns: tensors, nested at will, whose
            shapes stay the same.
        limits: Integer tensor `(B,)`: the greatest number of tokens for each row, the end token
            included.
        max_length: Integer scalar T, at least the largest limit.
        begin_id: Token that every row starts from. It is never produced.
        end_id: Token that ends a row.
        padding_id: Token that fills up finished rows. It is never produced.
        finished: Boolean tensor `(B,)`, True for rows that are to stay empty; None for none.

    Returns:
        Tuple of the ids `(B, T)`, int32, without the begin token, ended by `end_id` where a row
        came to its end and filled up with `padding_id`; and the scores `(B,)`, float32, the sum
        of the tokens' log-probabilities.
    """
    batch = ops.shape(limits)[0]
    limits = ops.cast(limits, "int32")
    if finished is None:
        finished = ops.zeros((batch,), dtype="bool")

    def unfinished(index, last, finished, ids, scores, cache):
        return ops.logical_and(index < max_length, ops.any(ops.logical_not(finished)))

    def advance(index, last, finished, ids, scores, cache):
        logits, cache = step(last, cache, index)
        log_probabilities = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
        allowed = log_probabilities + _never(log_probabilities.shape[-1], (begin_id, padding_id))
        # top_k rather than argmax, which Keras builds from ops that LiteRT lacks.
        best, chosen = (ops.squeeze(x, -1) for x in ops.top_k(allowed, 1))
        scores = scores + ops.where(finished, 0.0, best)
        chosen = ops.where(finished, padding_id, ops.cast(chosen, "int32"))
        finished = ops.logical_or(finished, chosen == end_id)
        finished = ops.logical_or(finished, index + 1 >= limits)
        last = ops.expand_dims(chosen, 1)
        ids = ops.slice_update(ids, (0, index), last)
        return index + 1, last, finished, ids, scores, cache

    start = (
        ops.convert_to_tensor(0, dtype="int32"),
        ops.full((batch, 1), begin_id, dtype="int32"),
        ops.logical_or(finished, limits <= 0),
        ops.full((batch, max_length), padding_id, dtype="int32"),
        ops.zeros((batch,), dtype="float32"),
        cache,
    )
    _, _, _, ids, scores, _ = ops.while_loop(unfinished, advance, start)
    return ids, scores


def _never(vocabulary_size, ids):
    """Return a constant `(1, V)` that takes `ids` out of the choice when it is added to scores."""
    penalty = np.zeros((1, vocabulary_size), dtype="float32")
    penalty[0, list(ids)] = LOWEST / 2  # half, so that adding a log-probability can't overflow
    return ops.convert_to_tensor(penalty)
