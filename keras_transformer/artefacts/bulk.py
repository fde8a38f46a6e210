"""Many texts through anything that answers a batch, in bounded memory.

It needs no TensorFlow: what runs the batch may be a model in Python, a SavedModel or a `.tflite`.
`translate` and `score_lines` are for what writes text, `read_columns` for everything else.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from keras_transformer.artefacts.artefact import Artefact
from keras_transformer.artefacts.text_to_text import TextToText

LINES_AT_ONCE = 8192  # to be written for
ROWS_AT_ONCE = 2048  # to be read
BATCH_TOKENS = 1024


@dataclasses.dataclass(frozen=True)
class Translations:
    """The result of `translate`, in the order of the input."""

    texts: list[str]  # the best of each
    scores: list[float]
    truncated: list[int]  # indices of inputs that were too long for the model and were cut
    hypotheses: list[list[tuple[str, float]]]  # text and score, best first; only those there are
    several: bool = False  # whether more than one hypothesis of each was asked for


def translate(
    runtime: TextToText,
    texts: Sequence[str],
    batch_tokens: int = BATCH_TOKENS,
    advance: Callable[[int], None] = lambda count: None,
    prefixes: Sequence[str] | None = None,
) -> Translations:
    """Translate texts in batches of similar length.

    Args:
        runtime: A `Translator` or an artefact.
        texts: The source texts.
        batch_tokens: Most source tokens in a batch, padding included; a longer text is a batch of
            its own.
        advance: Called with the number of texts in each batch that is done.
        prefixes: What each output has to begin with; None for anything.

    Returns:
        `Translations`, in the order of `texts`.
    """
    lengths, truncated = measure(runtime, texts)
    found: list[list[tuple[str, float]]] = [[] for _ in texts]
    several = False
    for batch in batches_of_tokens(lengths, batch_tokens):
        begun = () if prefixes is None else ([prefixes[i] for i in batch],)
        outputs, scores = runtime.run([texts[i] for i in batch], *begun)
        for i, some, values in zip(batch, outputs, scores, strict=True):
            first, *others = zip(some, values, strict=True)
            # The first stays even if the options leave no way to an end.
            several = bool(others)
            found[i] = [first, *((text, value) for text, value in others if value > -np.inf)]
        advance(len(batch))
    best = [hypotheses[0] for hypotheses in found]
    return Translations([t for t, _ in best], [s for _, s in best], truncated, found, several)


def translate_lines(
    runtime: TextToText,
    lines: Iterable[str],
    batch_tokens: int = BATCH_TOKENS,
    advance: Callable[[int], None] = lambda count: None,
    lines_at_once: int = LINES_AT_ONCE,
    prefixes: Iterable[str] | None = None,
) -> Iterator[Translations]:
    """Translate any number of lines, of which a bounded number is in memory at a time.

    Args:
        runtime: A `Translator` or an artefact.
        lines: The source texts.
        batch_tokens: As for `translate`.
        advance: As for `translate`.
        lines_at_once: How many lines are read, and sorted by length, before they are translated.
        prefixes: As for `translate`, as many as there are lines.

    Yields:
        `Translations` of the next lines, in order.
    """
    lines, begun = iter(lines), None if prefixes is None else iter(prefixes)
    while some := list(islice(lines, lines_at_once)):
        these = None if begun is None else list(islice(begun, len(some)))
        yield translate(runtime, some, batch_tokens, advance, these)


@dataclasses.dataclass(frozen=True)
class Scores:
    """A result of `score_lines`, in the order of the input."""

    scores: list[float]  # log-probability of each target
    tokens: list[int]  # of each target, the end token included
    truncated: list[int]  # indices of pairs that were too long for the model and were cut


def score_lines(
    runtime: TextToText,
    pairs: Iterable[tuple[str, str]],
    batch_tokens: int = BATCH_TOKENS,
    advance: Callable[[int], None] = lambda count: None,
    lines_at_once: int = LINES_AT_ONCE,
) -> Iterator[Scores]:
    """Compute how likely given targets are, for any number of pairs of source and target.

    Args:
        runtime: A `Translator` or an artefact.
        pairs: Sources and targets.
        batch_tokens: Most tokens in one side of a batch, padding included.
        advance: Called with the number of pairs in each batch that is done.
        lines_at_once: How many pairs are read, and sorted by length, before they are scored.

    Yields:
        `Scores` of the next pairs, in order.
    """
    pairs = iter(pairs)
    while some := list(islice(pairs, lines_at_once)):
        sources, targets = ([pair[side] for pair in some] for side in (0, 1))
        sides = [measure(runtime, side)[0] for side in (sources, targets)]
        lengths = [max(pair) for pair in zip(*sides, strict=True)]
        scores, tokens, truncated = [0.0] * len(some), [0] * len(some), []
        for batch in batches_of_tokens(lengths, batch_tokens):
            texts = [[side[i] for i in batch] for side in (sources, targets)]
            for i, value, count, cut in zip(batch, *runtime.score(*texts), strict=True):
                scores[i], tokens[i] = float(value), int(count)
                if cut:
                    truncated.append(i)
            advance(len(batch))
        yield Scores(scores, tokens, sorted(truncated))


def measure(runtime: TextToText, texts: Sequence[str]) -> tuple[list[int], list[int]]:
    """Count the tokens of texts with the end token; return those, and which will be cut."""
    lengths: list[int] = []
    truncated: list[int] = []
    for start in range(0, len(texts), 32):  # few at a time: one line may be very long
        ids, too_long = runtime.tokenize(texts[start : start + 32])
        lengths += (np.count_nonzero(ids, axis=1) + 1).tolist()
        truncated += (start + np.flatnonzero(too_long)).tolist()
    return lengths, truncated


def batches_of_tokens(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Group texts of similar length; yield the indices of each batch, the longest texts first.

    The longest come first, so that what needs most memory fails at once if it does. The number of
    texts in a batch is a multiple of 8, because for every new number kernels are generated anew.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        most = max(1, batch_tokens // lengths[order[start]])
        count = most if most < 8 else most // 8 * 8
        yield order[start : start + count]
        start += count


# --- What reads -----------------------------------------------------------------------------------


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

    def take(rows: Iterable[int]) -> dict[str, list[str]]:
        return {name: [texts[i] for i in rows] for name, texts in columns.items()}

    total = len(next(iter(columns.values())))
    lengths: list[int] = []
    cut: list[int] = []
    for start in range(0, total, batch_size):
        outputs = artefact.call("tokenize", **take(range(start, min(start + batch_size, total))))
        lengths += [_count(row) for row in outputs["ids"]]
        cut += (start + np.flatnonzero(outputs["truncated"])).tolist()
    order = sorted(range(total), key=lambda i: -lengths[i])
    parts: dict[str, list[Any]] = {}
    for start in range(0, total, batch_size):
        some = order[start : start + batch_size]
        for name, values in artefact.call("serving_default", **take(some)).items():
            parts.setdefault(name, []).append(values)
        advance(len(some))
    place = np.argsort(order)
    return {name: _join(values)[place] for name, values in parts.items()}, cut


def _count(row: np.ndarray) -> int:
    """Count the tokens of a padded row: its length without what is the same to its end."""
    different = np.flatnonzero(row != row[-1:])
    return int(different[-1]) + 2 if different.size else 1


def _join(parts: list[np.ndarray]) -> np.ndarray:
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
    lines_at_once: int = ROWS_AT_ONCE,
) -> Iterator[tuple[dict[str, np.ndarray], list[int]]]:
    """Answer any number of lines; see `read_rows_in_order`."""
    rows = ({"text": line} for line in lines)
    yield from read_rows_in_order(artefact, rows, batch_size, advance, lines_at_once)


def read_rows_in_order(
    artefact: Artefact,
    rows: Iterable[Mapping[str, str]],
    batch_size: int = 32,
    advance: Callable[[int], None] = lambda count: None,
    rows_at_once: int = ROWS_AT_ONCE,
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
