"""How examples are put into batches, and what can be done with any batches."""

import bisect
import dataclasses

from keras_transformer._tensorflow import tf
from keras_transformer.errors import InputError
from keras_transformer.typing import Nested, Size

EXAMPLES_AT_ONCE = 256  # texts tokenised by one op; more is no faster

Worker = tuple[int, int]  # its index, and the number of workers that share a corpus
ALONE = (0, 1)


@dataclasses.dataclass(frozen=True)
class Batching:
    """The size and length of batches.

    Args:
        batch_tokens: Most tokens in one side of a batch, padding included.
        max_length: Most tokens in a source or target, the end token included. Longer pairs are
            left out, and counted.
    """

    batch_tokens: int
    max_length: int

    def __post_init__(self) -> None:
        """Refuse a batch that could hold no sentence."""
        if self.batch_tokens < self.max_length:
            raise InputError(
                f"batch_tokens must be at least max_length, got {self.batch_tokens} and "
                f"{self.max_length}: a batch has to hold the longest sentence."
            )

    @property
    def lengths(self) -> list[int]:
        """The longest pair in each bucket: neighbours differ by little, so little is padded."""
        steps = [*range(8, 24, 2), *range(24, 48, 4), *range(48, 64, 8)]
        steps += [*range(64, 128, 16), *range(128, 1 << 20, 64)]
        return [n for n in steps if n < self.max_length] + [self.max_length]

    @property
    def sizes(self) -> list[int]:
        """The number of pairs in a batch of each bucket."""
        return [self.batch_tokens // n for n in self.lengths]

    def bucket_of(self, width: int) -> int:
        """Return the bucket that a batch is from, as an index of `lengths`.

        Args:
            width: The larger of the batch's S and T.
        """
        return bisect.bisect_left(self.lengths, width)


def untuned(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Turn off tf.data's tuner, which looks for the best parallelism while a pipeline runs.

    Here it found nothing and took a quarter of the processor time. And whoever lets go of an
    iterator may wait for the tuner, at worst for as long as the iterator has lived: `fit` and
    `evaluate` then come back a minute after their last step.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


def split_batches(
    batches: tf.data.Dataset, parts: int, kept: range | None = None
) -> tf.data.Dataset:
    """Cut each batch into smaller ones, for the replicas that share it.

    Args:
        batches: Data set of batches, of any structure, with B rows.
        parts: How many of each. Part i has the rows from i * B // parts to (i + 1) * B // parts:
            where B is less than `parts`, some have none.
        kept: Which parts to keep, without gaps; None for all.

    Returns:
        Data set with an element for each part kept of each of `batches`, in order.
    """
    kept = range(parts) if kept is None else kept

    def split(*batch: Nested) -> tf.data.Dataset:
        rows = tf.shape(tf.nest.flatten(batch)[0], tf.int64)[0]

        def part(i: Size) -> Nested:
            begin, end = i * rows // parts, (i + 1) * rows // parts
            return tf.nest.map_structure(lambda x: x[begin:end], batch)

        return tf.data.Dataset.range(kept.start, kept.stop).map(part)

    return batches.flat_map(split)
