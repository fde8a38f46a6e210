"""Reading examples, again and again: the lines of parallel text, or records of any kind.

Whatever they are read from, examples are strings, one for each column.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np

from keras_transformer._tensorflow import tf
from keras_transformer.files import BYTE_ORDER_MARK
from keras_transformer.training.data.batching import ALONE, EXAMPLES_AT_ONCE, Worker
from keras_transformer.training.data.corpora import Corpus, FilePair
from keras_transformer.training.data.records import RecordSource
from keras_transformer.typing import Strings, Tensor

FILES_AT_ONCE = 16  # files read in turns, so that lines shuffled together come from many

Source: TypeAlias = Corpus | RecordSource  # what a task is trained on
Group: TypeAlias = list[FilePair] | RecordSource  # what is shuffled together


def groups_of(source: Source) -> list[Group]:
    """Return the parts of a source that are shuffled by themselves: those of a mixture."""
    return [*source.groups] if isinstance(source, Corpus) else [source]


def shares_of(source: Source) -> list[float]:
    """Return the share that each group has of the examples that are trained on."""
    return source.shares if isinstance(source, Corpus) else [1.0]


def all_of(source: Source) -> Group:
    """Return everything, in order and once, whatever the shares."""
    return source.pairs if isinstance(source, Corpus) else source


def paths_of(group: Group) -> list[Path]:
    """Return the files of a group."""
    return [path for pair in group for path in pair] if isinstance(group, list) else group.paths


def read(group: Group, worker: Worker = ALONE, order: Tensor | None = None) -> tf.data.Dataset:
    """Read examples.

    Args:
        group: The files of parallel text, or records.
        worker: Who reads. Each worker gets examples of its own.
        order: Seed of the order of files that are read many at once; None for one after the other.

    Returns:
        Data set of tuples of strings, one for each column.
    """
    return text_lines(group, worker, order) if isinstance(group, list) else _rows(group, worker)


def text_lines(
    pairs: list[FilePair], worker: Worker = ALONE, order: Tensor | None = None
) -> tf.data.Dataset:
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

    def without_mark(line: Strings) -> Strings:
        return tf.strings.regex_replace(line, f"^{BYTE_ORDER_MARK}", "")

    def read_side(path: Strings, compression: Strings) -> tf.data.Dataset:
        lines = tf.data.TextLineDataset(path, compression)
        return lines.take(1).map(without_mark).concatenate(lines.skip(1))

    def read_pair(source: Strings, target: Strings) -> tf.data.Dataset:
        lines = tf.data.Dataset.zip((read_side(*source), read_side(*target)))
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


def _rows(records: RecordSource, worker: Worker) -> tf.data.Dataset:
    """Read records in Python, many at a time."""
    index, count = worker

    def chunks() -> Iterator[tuple[np.ndarray, ...]]:
        rows = itertools.islice(records, index, None, count)
        while chunk := list(itertools.islice(rows, EXAMPLES_AT_ONCE)):
            texts = np.array([[text.encode() for text in row] for row in chunk], object)
            yield tuple(texts.T)

    spec = tuple(tf.TensorSpec([None], tf.string) for _ in records.columns)
    return tf.data.Dataset.from_generator(chunks, output_signature=spec).unbatch()
