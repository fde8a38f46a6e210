"""Reading many texts with anything that gives labels, vectors or answers for them.

It needs no TensorFlow: what runs the batch may be a model in Python, a SavedModel or a `.tflite`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from keras_transformer.artefacts.artefact import Artefact

LINES_AT_ONCE = 2048


def read_texts(
    artefact: Artefact,
    texts: Sequence[str],
    batch_size: int = 32,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[dict[str, np.ndarray], list[int]]:
    """Answer texts in batches of similar length; see `read_columns`."""
    return read_columns(artefact, {"text": texts}, batch_size, advance)


def read_columns(
    artefact: Artefact,
    columns: Mapping[str, Sequence[str]],
    batch_size: int = 32,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[dict[str, np.ndarray], list[int]]:
    """Answer what has one or several texts, in batches of similar length.

    Args:
        artefact: What has the signatures `serving_default` and `tokenize`.
        columns: What these take, by name: the texts of each row.
        batch_size: Most rows in a batch.
        advance: Called with the number of rows in each batch that is done.

    Returns:
        Tuple of the outputs of `serving_default`, by name, in the order of the rows, where those
        that are shorter than others are padded with "" or 0; and the indices of rows that were too
        long for the model and were cut.
    """

    def take(rows):
        return {name: [texts[i] for i in rows] for name, texts in columns.items()}

    total = len(next(iter(columns.values())))
    lengths: list[int] = []
    cut: list[int] = []
    for start in range(0, total, batch_size):
        outputs = artefact.call("tokenize", **take(range(start, min(start + batch_size, total))))
        lengths += [_count(row) for row in outputs["ids"]]
        cut += (start + np.flatnonzero(outputs["truncated"])).tolist()
    order = sorted(range(total), key=lambda i: -lengths[i])
    parts: dict[str, list] = {}
    for start in range(0, total, batch_size):
        some = order[start : start + batch_size]
        for name, values in artefact.call("serving_default", **take(some)).items():
            parts.setdefault(name, []).append(values)
        advance(len(some))
    place = np.argsort(order)
    return {name: _join(values)[place] for name, values in parts.items()}, cut


def _count(row):
    """Count the tokens of a padded row: its length without what is the same to its end."""
    different = np.flatnonzero(row != row[-1:])
    return int(different[-1]) + 2 if different.size else 1


def _join(parts):
    """Put arrays together along the first axis, padded in the others."""
    shape = np.max([values.shape[1:] for values in parts], axis=0, initial=0).astype(int)
    fill = b"" if parts[0].dtype == object else 0
    return np.concatenate(
        [
            np.pad(
                values,
                [(0, 0), *((0, size - n) for size, n in zip(shape, values.shape[1:], strict=True))],
                constant_values=fill,
            )
            for values in parts
        ]
    )


def read_lines_in_order(
    artefact: Artefact,
    lines: Iterable[str],
    batch_size: int = 32,
    advance: Callable[[int], None] = lambda count: None,
    lines_at_once: int = LINES_AT_ONCE,
) -> Iterator[tuple[dict[str, np.ndarray], list[int]]]:
    """Answer any number of lines; see `read_rows_in_order`."""
    rows = ({"text": line} for line in lines)
    yield from read_rows_in_order(artefact, rows, batch_size, advance, lines_at_once)


def read_rows_in_order(
    artefact: Artefact,
    rows: Iterable[Mapping[str, str]],
    batch_size: int = 32,
    advance: Callable[[int], None] = lambda count: None,
    rows_at_once: int = LINES_AT_ONCE,
) -> Iterator[tuple[dict[str, np.ndarray], list[int]]]:
    """Answer any number of rows, of which a bounded number is in memory at a time.

    Args:
        artefact: As for `read_columns`.
        rows: What each call takes one of, by name.
        batch_size: As for `read_columns`.
        advance: As for `read_columns`.
        rows_at_once: How many rows are read, and sorted by length, before they are answered.

    Yields:
        What `read_columns` returns of the next rows.
    """
    rows = iter(rows)
    while some := list(islice(rows, rows_at_once)):
        columns = {name: [row[name] for row in some] for name in some[0]}
        yield read_columns(artefact, columns, batch_size, advance)
