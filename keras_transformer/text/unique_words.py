"""Equal words of a batch, found by their bytes, in the graph: each is to be cut only once."""

from keras_transformer._tensorflow import tf
from keras_transformer.text.code_points import stretches
from keras_transformer.typing import Tensor

# A word's hash is its bytes as digits to this base, of which seven fit into 64 bits.
_BASE = 257
_EXACT = 7
_POWERS = 64  # they repeat beyond


def unique_words(
    values: Tensor, starts: Tensor, counts: Tensor, words: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Find equal words.

    Args:
        values: Int32 `(N,)`, the bytes.
        starts: Int32 `(W,)`, where each word begins.
        counts: Int32 `(W,)`, how many bytes it has.
        words: Int32 `(N,)`, the word of each byte.

    Returns:
        For each word which of the different ones it is, `(W,)`; where these begin, `(U,)`, and how
        many bytes they have.
    """
    offsets = tf.range(tf.shape(values)[0]) - tf.gather(starts, words)
    powers = tf.gather(_powers(), offsets % _POWERS)
    sums = tf.cumsum((tf.cast(values, tf.int64) + 1) * powers)  # it wraps, which a hash may
    sums = tf.concat([tf.zeros([1], tf.int64), sums], 0)
    hashes = tf.gather(sums, starts + counts) - tf.gather(sums, starts)
    hashes, which = tf.unique(hashes)
    every = tf.range(tf.shape(starts)[0])
    of = tf.math.unsorted_segment_min(every, which, tf.shape(hashes)[0])  # the first of the equal
    # Different words may have one hash if they are long, above all where somebody means them to.
    first = tf.gather(of, which)
    same = tf.reduce_all(tf.equal(tf.gather(counts, first), counts))
    long = tf.where(counts > _EXACT)[:, 0]
    lengths = tf.gather(counts, long)
    here = stretches(tf.gather(starts, long), lengths)
    there = stretches(tf.gather(starts, tf.gather(first, long)), lengths)
    there = tf.minimum(there, tf.shape(values)[0] - 1)
    same = tf.logical_and(
        same, tf.reduce_all(tf.equal(tf.gather(values, there), tf.gather(values, here)))
    )
    which, of = tf.cond(same, lambda: (which, of), lambda: (every, every))
    return which, tf.gather(starts, of), tf.gather(counts, of)


def _powers() -> Tensor:
    powers = [_BASE**i % 2**64 for i in range(_POWERS)]
    return tf.constant([p - 2**64 if p >= 2**63 else p for p in powers], tf.int64)
