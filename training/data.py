"""From parallel text files to batches: read, tokenise, filter, bucket by length, pad.

    text files -> checked line by line -> ids -> buckets of similar length -> (inputs, labels)

Every step after the check is a `tf.data` transformation, so memory does not grow with the corpus.
"""

import contextlib
import dataclasses
import gzip
import itertools
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from keras_transformer.errors import InputError
from keras_transformer.models.config import BEGIN_ID, END_ID
from keras_transformer.text import WordPieceTokenizer

LINES_AT_ONCE = 256  # lines tokenised by one op; more is no faster
SHUFFLE_LINES = 100_000


@dataclasses.dataclass(frozen=True)
class ParallelFiles:
    """Two text files, plain or gzip, whose lines belong together.

    Args:
        source: The file with the source texts, UTF-8, one a line.
        target: The file with the target texts.
    """

    source: Path
    target: Path

    def check(self) -> int:
        """Read both files to the end and return the number of lines.

        Raises:
            InputError: If a file is missing, unreadable, empty or not UTF-8, or if one has more
                lines than the other. The message names the file and the line.
        """
        count = 0
        missing = object()
        pairs = itertools.zip_longest(
            read_lines(self.source), read_lines(self.target), fillvalue=missing
        )
        for source, target in pairs:
            if source is missing or target is missing:
                short, long = (
                    (self.source, self.target) if source is missing else (self.target, self.source)
                )
                rest = sum(1 for _ in pairs)
                raise InputError(
                    f"{short} has {count:,} lines, but {long} has {count + 1 + rest:,}: line "
                    f"{count + 1:,} is missing in {short}. Lines of the two files belong together."
                )
            count += 1
            for path, line in ((self.source, source), (self.target, target)):
                if "\r" in str(line):
                    raise InputError(
                        f"{path}, line {count:,}: a carriage return inside the line. End lines "
                        "with a line feed alone, or with both."
                    )
        if not count:
            raise InputError(f"{self.source} and {self.target} are empty.")
        return count

    def lines(self) -> Iterator[str]:
        """Yield every line of the source, then every line of the target."""
        yield from read_lines(self.source)
        yield from read_lines(self.target)


def read_lines(path) -> Iterator[str]:
    """Yield the lines of a text file, plain or gzip, without their ends.

    Args:
        path: The file, or "-" for standard input. A name that ends in `.gz` is unpacked.

    Raises:
        InputError: If the file is missing, unreadable or not UTF-8.
    """
    path = Path(path)
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):  # noqa: B007  (named in the error)
                yield line.rstrip(b"\r\n").decode("utf-8")
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}, line {number:,}: not UTF-8 ({error.reason} at byte {error.start}). "
            "Convert the file, for example with: iconv -f ISO-8859-1 -t UTF-8."
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} can't be read: {error}.") from None


def _open(path):
    if str(path) == "-":
        return contextlib.nullcontext(sys.stdin.buffer)
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


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
        steps = [*range(8, 64, 8), *range(64, 128, 16), *range(128, 1 << 20, 64)]
        return [n for n in steps if n < self.max_length] + [self.max_length]

    @property
    def sizes(self) -> list[int]:
        """The number of pairs in a batch of each bucket."""
        return [self.batch_tokens // n for n in self.lengths]


@dataclasses.dataclass(frozen=True)
class CorpusSize:
    """What is in a corpus, counted before training.

    Args:
        pairs: Pairs that are used.
        too_long: Pairs left out because a side is longer than `max_length`.
        empty: Pairs left out because a side is empty.
        target_tokens: Tokens of the targets used, end tokens included.
        batches: Batches in one epoch.
    """

    pairs: int
    too_long: int
    empty: int
    target_tokens: int
    batches: int


def measure(files: ParallelFiles, tokenizer: WordPieceTokenizer, batching: Batching) -> CorpusSize:
    """Count what `make_batches` will deliver in one epoch.

    Raises:
        InputError: If no pair is left.
    """
    bounds = tf.constant(batching.lengths)

    def count(state, source, target):
        longest = tf.maximum(source.row_lengths(), target.row_lengths()) + 1
        shortest = tf.minimum(source.row_lengths(), target.row_lengths())
        longest, shortest = tf.cast(longest, tf.int32), tf.cast(shortest, tf.int32)
        empty = tf.equal(shortest, 0)
        too_long = tf.logical_and(longest > batching.max_length, tf.logical_not(empty))
        used = tf.logical_not(tf.logical_or(empty, too_long))
        bucket = tf.searchsorted(bounds, tf.boolean_mask(longest, used))
        tokens = tf.boolean_mask(target.row_lengths() + 1, used)
        return (
            state[0] + tf.math.bincount(bucket, minlength=len(bounds), dtype=tf.int64),
            state[1] + tf.math.count_nonzero(too_long),
            state[2] + tf.math.count_nonzero(empty),
            state[3] + tf.reduce_sum(tokens),
        )

    zero = tf.constant(0, tf.int64)
    start = (tf.zeros(len(bounds), tf.int64), zero, zero, zero)
    totals = _tokenized(_text_lines(files), tokenizer).reduce(start, lambda s, x: count(s, *x))
    in_bucket, too_long, empty, tokens = (total.numpy() for total in totals)
    if not in_bucket.sum():
        raise InputError(
            f"No pair of {files.source} and {files.target} can be used: {too_long:,} have more "
            f"than {batching.max_length} tokens, {empty:,} have an empty side."
        )
    batches = sum(-(-int(n) // size) for n, size in zip(in_bucket, batching.sizes, strict=True))
    return CorpusSize(int(in_bucket.sum()), int(too_long), int(empty), int(tokens), batches)


def make_batches(
    files: ParallelFiles, tokenizer: WordPieceTokenizer, batching: Batching
) -> tf.data.Dataset:
    """Make batches of the whole corpus, once, in the order of the files.

    Pairs of similar length share a batch, and a batch holds as many of them as fit into its tokens.
    Teacher forcing: the decoder's input is the target shifted right by one, so that it sees the
    true tokens before the one that it is to predict.

    Args:
        files: The parallel text.
        tokenizer: Cuts text into ids.
        batching: Size and length of batches.

    Returns:
        Data set of `({"source_ids": (B, S), "target_ids": (B, T)}, labels (B, T))`, int32 and
        padded with 0: source and end token, begin token and target, target and end token.
    """
    return _batches(_text_lines(files), tokenizer, batching).prefetch(2)


def make_training_batches(
    files: ParallelFiles,
    tokenizer: WordPieceTokenizer,
    batching: Batching,
    seed: int,
    epoch_batches: int,
    first_batch: int = 0,
) -> tf.data.Dataset:
    """Make batches without end, shuffled anew in each epoch.

    Args:
        files: The parallel text.
        tokenizer: Cuts text into ids.
        batching: Size and length of batches.
        seed: Decides the order; the same seed always gives the same batches.
        epoch_batches: Number of batches in an epoch, from `measure`.
        first_batch: Number of batches to leave out, so that a run goes on where it stopped.

    Returns:
        Data set as `make_batches` returns.
    """
    first_epoch, skipped = divmod(first_batch, epoch_batches)

    def epoch(number):
        tf.random.set_seed(1)  # of this graph: the order must not depend on the global seed
        # A seed for each epoch, so that any of them can begin without those before it.
        epoch_seed = tf.random.stateless_uniform(
            [], tf.stack([tf.constant(seed, tf.int64), number]), 0, 1 << 62, tf.int64
        )
        lines = _text_lines(files).shuffle(SHUFFLE_LINES, seed=epoch_seed)
        skip = tf.where(tf.equal(number, first_epoch), tf.constant(skipped, tf.int64), 0)
        return _batches(lines, tokenizer, batching).skip(skip)

    return tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(epoch).prefetch(8)


def _text_lines(files):
    def lines(path):
        compression = "GZIP" if Path(path).suffix == ".gz" else ""
        return tf.data.TextLineDataset(str(path), compression_type=compression)

    return tf.data.Dataset.zip((lines(files.source), lines(files.target)))


def _tokenized(lines, tokenizer):
    """Cut many lines at once: pairs of strings -> pairs of ragged ids."""
    return lines.batch(LINES_AT_ONCE).map(
        lambda source, target: (tokenizer.tokenize(source), tokenizer.tokenize(target)),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def _batches(lines, tokenizer, batching):
    def usable(source, target):
        shortest = tf.minimum(tf.size(source), tf.size(target))
        longest = tf.maximum(tf.size(source), tf.size(target))
        return tf.logical_and(shortest > 0, longest < batching.max_length)

    def split(source, target):
        inputs = {
            "source_ids": tf.concat([source, [END_ID]], 0),
            "target_ids": tf.concat([[BEGIN_ID], target], 0),
        }
        return inputs, tf.concat([target, [END_ID]], 0)

    return (
        _tokenized(lines, tokenizer)
        .unbatch()
        .filter(usable)
        .map(split)
        .bucket_by_sequence_length(
            lambda inputs, labels: tf.maximum(tf.size(inputs["source_ids"]), tf.size(labels)),
            bucket_boundaries=[n + 1 for n in batching.lengths],
            bucket_batch_sizes=[*batching.sizes, 1],
        )
    )
