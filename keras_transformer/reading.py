"""Reading many texts with anything that gives a label or a vector for each.

It needs no TensorFlow: what runs the batch may be a model in Python, a SavedModel or a `.tflite`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from keras_transformer.artefact import Artefact

LINES_AT_ONCE = 2048


def read_texts(
    artefact: Artefact,
    texts: Sequence[str],
    batch_size: int = 32,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[dict[str, np.ndarray], list[int]]:
    """Answer texts in batches of similar length.

    Args:
        artefact: What has the signatures `serving_default` and `tokenize`.
        texts: The texts.
        batch_size: Most texts in a batch.
        advance: Called with the number of texts in each batch that is done.

    Returns:
        Tuple of the outputs of `serving_default`, by name, in the order of `texts`; and the
        indices of texts that were too long for the model and were cut.
    """
    lengths: list[int] = []
    cut: list[int] = []
    for start in range(0, len(texts), batch_size):
        outputs = artefact.call("tokenize", text=texts[start : start + batch_size])
        lengths += [_count(row) for row in outputs["ids"]]
        cut += (start + np.flatnonzero(outputs["truncated"])).tolist()
    order = sorted(range(len(texts)), key=lambda i: -lengths[i])
    parts: dict[str, list] = {}
    for start in range(0, len(order), batch_size):
        some = order[start : start + batch_size]
        for name, values in artefact.call("serving_default", text=[texts[i] for i in some]).items():
            parts.setdefault(name, []).append(values)
        advance(len(some))
    place = np.argsort(order)
    return {name: np.concatenate(values)[place] for name, values in parts.items()}, cut


def _count(row):
    """Count the tokens of a padded row: its length without what is the same to its end."""
    different = np.flatnonzero(row != row[-1:])
    return int(different[-1]) + 2 if different.size else 1


def read_lines_in_order(
    artefact: Artefact,
    lines: Iterable[str],
    batch_size: int = 32,
    advance: Callable[[int], None] = lambda count: None,
    lines_at_once: int = LINES_AT_ONCE,
) -> Iterator[tuple[dict[str, np.ndarray], list[int]]]:
    """Answer any number of lines, of which a bounded number is in memory at a time.

    Args:
        artefact: As for `read_texts`.
        lines: The texts.
        batch_size: As for `read_texts`.
        advance: As for `read_texts`.
        lines_at_once: How many lines are read, and sorted by length, before they are answered.

    Yields:
        What `read_texts` returns of the next lines.
    """
    lines = iter(lines)
    while some := list(islice(lines, lines_at_once)):
        yield read_texts(artefact, some, batch_size, advance)
