"""The steps from lines of text to batches; `data` and `corpus_size` put them together."""

from keras_transformer import _backend  # noqa: F401  # isort: skip  (first: quiet)

import bisect
import dataclasses

import tensorflow as tf

from keras_transformer.errors import InputError
from keras_transformer.files import BYTE_ORDER_MARK
from keras_transformer.models.config import BEGIN_ID, END_ID
from keras_transformer.text import WordPieceTokenizer
from keras_transformer.training.data.corpora import FilePair

LINES_AT_ONCE = 256  # lines tokenised by one op; more is no faster
FILES_AT_ONCE = 16  # files read in turns, so that lines shuffled together come from many

Worker = tuple[int, int]  # its index, and the number of workers that share a corpus
ALONE = (0, 1)


@dataclasses.dataclass(frozen=True)
class Batching:
    """How pairs are put into batches.

    Args:
        batch_tokens: Most tokens in one side of a batch, padding included.
        max_length: Most tokens in a source or target, the end token included. Longer pairs are
            left out, and counted.
    """

    batch_tokens: int
    max_length: int

    def __post_init__(self):
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


def text_lines(pairs: list[FilePair], worker: Worker = ALONE, order=None) -> tf.data.Dataset:
    """Read pairs of lines.

    Args:
        pairs: The files.
        worker: Who reads. Each worker gets files of its own if there are as many files as
            workers, and otherwise lines of its own from every file.
        order: Seed of the files' order, which are then read many at once; None for one after the
            other, in the order given.

    Returns:
        Data set of two strings.
    """
    index, count = worker
    by_file = len(pairs) >= count
    if by_file:
        pairs = pairs[index::count]

    def without_mark(line):
        return tf.strings.regex_replace(line, f"^{BYTE_ORDER_MARK}", "")

    def read(path, compression):
        lines = tf.data.TextLineDataset(path, compression)
        return lines.take(1).map(without_mark).concatenate(lines.skip(1))

    def read_pair(source, target):
        lines = tf.data.Dataset.zip((read(*source), read(*target)))
        return lines if by_file else lines.shard(count, index)

    sides = tuple(
        ([str(path) for path in side], ["GZIP" if path.suffix == ".gz" else "" for path in side])
        for side in zip(*pairs, strict=True)
    )
    files = tf.data.Dataset.from_tensor_slices(sides)
    if order is None:
        return files.flat_map(read_pair)
    files = files.shuffle(len(pairs), seed=order)
    return files.interleave(read_pair, cycle_length=min(len(pairs), FILES_AT_ONCE))


def tokenized(lines: tf.data.Dataset, tokenizer: WordPieceTokenizer) -> tf.data.Dataset:
    """Cut many lines at once: pairs of strings -> pairs of ragged ids."""
    return lines.batch(LINES_AT_ONCE).map(
        lambda source, target: (tokenizer.tokenize(source), tokenizer.tokenize(target)),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def untuned(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Turn off tf.data's tuner, which looks for the best parallelism while a pipeline runs.

    Here it found nothing and took a quarter of the processor time. And whoever lets go of an
    iterator may wait for the tuner, at worst for as long as the iterator has lived: `fit` and
    `evaluate` then come back a minute after their last step.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


def find_usable(source, target, max_length: int):
    """Find the pairs to train on.

    Args:
        source: Ragged ids, without an end token.
        target: Ragged ids, likewise.
        max_length: Most tokens in a side, the end token included.

    Returns:
        Three boolean tensors `(B,)`: usable, too long, with an empty side.
    """
    longest = tf.maximum(source.row_lengths(), target.row_lengths())
    empty = tf.equal(tf.minimum(source.row_lengths(), target.row_lengths()), 0)
    too_long = tf.logical_and(longest >= max_length, tf.logical_not(empty))
    return tf.logical_not(tf.logical_or(empty, too_long)), too_long, empty


def bucketed(
    lines: tf.data.Dataset,
    tokenizer: WordPieceTokenizer,
    batching: Batching,
    cut_anew=None,
) -> tf.data.Dataset:
    """Make batches of lines: pairs of strings -> (inputs, labels), see `data.make_batches`.

    Args:
        lines: Pairs of strings.
        tokenizer: Cuts text into ids. Their number decides which pairs are used, and which of them
            share a batch.
        batching: Size and length of batches.
        cut_anew: Function of the number of a group of lines and of their strings `(B,)` that
            returns the ids to train on instead, ragged `(B, (S))`. Because pairs share batches
            as they would without it, an epoch has as many batches, and these may be larger.
    """

    def keep_usable(number, text):
        source, target = (tokenizer.tokenize(side) for side in text)
        usable, _, _ = find_usable(source, target, batching.max_length)
        sides = [tf.ragged.boolean_mask(ids, usable) for ids in (source, target)]
        lengths = tf.maximum(*(ids.row_lengths() for ids in sides)) + 1
        if cut_anew is not None:
            text = [tf.boolean_mask(side, usable) for side in text]
            sides = [
                _no_longer_than(batching.max_length, cut_anew(2 * number + i, text[i]), sides[i])
                for i in range(2)
            ]
        return *sides, lengths

    def frame(source, target, length):
        inputs = {
            "source_ids": tf.concat([source, [END_ID]], 0),
            "target_ids": tf.concat([[BEGIN_ID], target], 0),
        }
        return inputs, tf.concat([target, [END_ID]], 0), length

    return (
        lines.batch(LINES_AT_ONCE)
        .enumerate()
        .map(keep_usable, num_parallel_calls=tf.data.AUTOTUNE)
        .unbatch()
        .map(frame)
        .bucket_by_sequence_length(
            lambda inputs, labels, length: tf.cast(length, tf.int32),
            bucket_boundaries=[n + 1 for n in batching.lengths],
            bucket_batch_sizes=[*batching.sizes, 1],
        )
        .map(lambda inputs, labels, lengths: (inputs, labels))
    )


def _no_longer_than(max_length, ids, plain):
    """Return ids if all rows and their ends fit the model, and otherwise the plain ones."""
    fits = tf.reduce_all(ids.row_lengths() < max_length)
    return tf.cond(fits, lambda: ids, lambda: plain)
