"""Whose turn it is: batches of the parts of a mixture, each in its share.

A batch is of one part, and each part has epochs of its own. Like this it is known how far each part
has come at any batch, and no run that goes on has to read more than a part of an epoch.
"""

from collections.abc import Callable, Sequence

import numpy as np

from keras_transformer._tensorflow import tf
from keras_transformer.training.data.batching import Worker
from keras_transformer.training.data.corpus_size import CorpusSize
from keras_transformer.typing import Tensor

GOLDEN_RATIO = 0.6180339887498949

Turn = Callable[[Tensor], Tensor]  # numbers of batches, int64 -> numbers of parts, int64


def make_turns(
    shares: Sequence[float], parts: Sequence[CorpusSize], seed: int, worker: Worker
) -> Turn:
    """Return a function from the number of a batch to the part that it is taken from.

    Multiples of the golden ratio, without their whole parts, fill the unit interval more evenly
    than chance, so each part comes as regularly as its share allows. Workers begin at different
    places, so that together they have all parts at any time.
    """
    # Of a part whose batches hold fewer examples, more batches are taken.
    batches = np.array([s * p.batches / p.examples for s, p in zip(shares, parts, strict=True)])
    bounds = np.cumsum(batches)[:-1] / batches.sum()
    index, count = worker
    begin = np.random.default_rng(seed).random() + index / count

    def turn(number: Tensor) -> Tensor:
        place = (begin + tf.cast(number, tf.float64) * GOLDEN_RATIO) % 1
        return tf.reduce_sum(tf.cast(place[..., tf.newaxis] >= bounds, tf.int64), -1)

    return turn


def count_turns(turn: Turn, parts: int, first_batch: int) -> list[int]:
    """Count how many of the batches before the first are of each part."""
    counts = np.zeros(parts, int)
    for numbers in tf.data.Dataset.range(first_batch).batch(1 << 16):
        counts += np.bincount(turn(numbers), minlength=parts)
    return counts.tolist()
