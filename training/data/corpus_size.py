"""How much is in a corpus: counted once, and remembered as long as nothing changes."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from keras_transformer._tensorflow import tf
from keras_transformer.errors import InputError
from keras_transformer.text import WordPieceTokenizer
from keras_transformer.training.data.batching import (
    ALONE,
    Batching,
    Worker,
    find_usable,
    text_lines,
    tokenized,
)
from keras_transformer.training.data.corpora import Corpus, FilePair


@dataclasses.dataclass(frozen=True)
class CorpusSize:
    """The size of a corpus, counted before training.

    Args:
        pairs: Pairs that are used.
        too_long: Pairs left out because a side is longer than `max_length`.
        empty: Pairs left out because a side is empty.
        source_tokens: Tokens of the sources used, end tokens included.
        target_tokens: Tokens of the targets used, likewise.
        padded_tokens: Both with the padding of an epoch, as is to be expected if chance decides
            which pairs of a bucket share a batch.
        batches: Batches in one epoch. Of a mixture with weights, those that deliver as many pairs
            as it has.
        parts: Of a mixture with weights, the size of each part.
    """

    pairs: int
    too_long: int
    empty: int
    source_tokens: int
    target_tokens: int
    padded_tokens: int
    batches: int
    parts: tuple["CorpusSize", ...] = ()

    @property
    def padding(self) -> float:
        """The share of padding in the batches of an epoch."""
        return 1 - (self.source_tokens + self.target_tokens) / self.padded_tokens

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "CorpusSize":
        """Make it of what `dataclasses.asdict` gave."""
        return cls(**{**fields, "parts": tuple(cls.from_dict(part) for part in fields["parts"])})


def measure(
    corpus: Corpus, tokenizer: WordPieceTokenizer, batching: Batching, worker: Worker = ALONE
) -> CorpusSize:
    """Count what one epoch delivers.

    Args:
        corpus: The parallel text.
        tokenizer: Cuts text into ids.
        batching: Size and length of batches.
        worker: Whose share of the corpus to count.

    Raises:
        InputError: If no pair is left.
    """
    parts = [_measure(files, tokenizer, batching, worker) for files in corpus.groups]
    if len(parts) == 1:
        return parts[0]
    sums = {
        field.name: sum(getattr(part, field.name) for part in parts)
        for field in dataclasses.fields(CorpusSize)
        if field.name != "parts"
    }
    shares = corpus.shares
    batches_a_pair = sum(w * p.batches / p.pairs for w, p in zip(shares, parts, strict=True))
    sums["batches"] = math.ceil(sums["pairs"] * batches_a_pair)
    return CorpusSize(**sums, parts=tuple(parts))


def remember(
    corpus: Corpus, tokenizer: WordPieceTokenizer, batching: Batching, worker: Worker = ALONE
) -> dict[str, Any]:
    """Measure a corpus, and note what was measured, for `measured` and ready for JSON."""
    of = _fingerprint(corpus, tokenizer, batching, worker)
    return {"of": of, "size": dataclasses.asdict(measure(corpus, tokenizer, batching, worker))}


def measured(
    known: dict[str, Any],
    name: str,
    corpus: Corpus,
    tokenizer: WordPieceTokenizer,
    batching: Batching,
    worker: Worker = ALONE,
) -> CorpusSize:
    """Check and measure a corpus, unless that has been done and nothing has changed since.

    Args:
        known: What `remember` returned, by name. What is measured now is added.
        name: Name of the corpus there.
        corpus: The parallel text.
        tokenizer: Cuts text into ids.
        batching: Size and length of batches.
        worker: Whose share of the corpus to count.

    Raises:
        InputError: If the text is missing or damaged, or no pair is left.
    """
    of = _fingerprint(corpus, tokenizer, batching, worker)
    try:
        if known[name]["of"] == of:
            return CorpusSize.from_dict(known[name]["size"])
    except (KeyError, TypeError):
        pass  # not measured yet, or by another version
    corpus.check()
    known[name] = remember(corpus, tokenizer, batching, worker)
    return CorpusSize.from_dict(known[name]["size"])


def fingerprint(paths: Iterable[Path], decides: Any) -> str:
    """Digest everything that decides a size.

    Args:
        paths: The files, of which names, sizes and times count.
        decides: Everything else, ready for JSON.

    Raises:
        InputError: If a file is missing.
    """
    try:
        files = [(str(p.absolute()), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
    except OSError as error:
        raise InputError(f"{error.filename} can't be read: {error.strerror}.") from None
    return hashlib.sha256(json.dumps([files, decides]).encode()).hexdigest()


def _fingerprint(corpus, tokenizer, batching, worker) -> str:
    paths = (path for group in corpus.groups for pair in group for path in pair)
    groups = [len(group) for group in corpus.groups]
    vocabulary = tokenizer.vocabulary
    decides = [groups, corpus.shares, vocabulary, dataclasses.astuple(batching), worker]
    return fingerprint(paths, decides)


def _measure(files: list[FilePair], tokenizer, batching, worker) -> CorpusSize:
    bounds = tf.constant(batching.lengths, tf.int64)
    table = [len(bounds), batching.max_length + 1]  # pairs by bucket and length of a side

    def count(state, source, target):
        usable, too_long, empty = find_usable(source, target, batching.max_length)
        lengths = [tf.boolean_mask(ids.row_lengths() + 1, usable) for ids in (source, target)]
        bucket = tf.searchsorted(bounds, tf.maximum(*lengths), out_type=tf.int64)
        cells = [bucket * table[1] + length for length in lengths]
        return (
            state[0] + _count_each(cells[0], table),
            state[1] + _count_each(cells[1], table),
            state[2] + tf.math.count_nonzero(too_long),
            state[3] + tf.math.count_nonzero(empty),
        )

    zero, zeros = tf.constant(0, tf.int64), tf.zeros(table, tf.int64)
    lines = tokenized(text_lines(files, worker), tokenizer)
    totals = lines.reduce((zeros, zeros, zero, zero), lambda state, pair: count(state, *pair))
    sources, targets, too_long, empty = (total.numpy() for total in totals)
    in_bucket = sources.sum(axis=1)
    if not in_bucket.sum():
        more = f" (and {len(files) - 1:,} more)" if len(files) > 1 else ""
        raise InputError(
            f"No pair of {files[0][0]} and {files[0][1]}{more} can be used: {too_long:,} have more "
            f"than {batching.max_length} tokens, {empty:,} have an empty side."
        )
    length = np.arange(table[1])
    return CorpusSize(
        pairs=int(in_bucket.sum()),
        too_long=int(too_long),
        empty=int(empty),
        source_tokens=int((sources * length).sum()),
        target_tokens=int((targets * length).sum()),
        padded_tokens=round(_padded(sources, batching) + _padded(targets, batching)),
        batches=sum(-(-int(n) // size) for n, size in zip(in_bucket, batching.sizes, strict=True)),
    )


def _count_each(cells, table):
    counts = tf.math.bincount(tf.cast(cells, tf.int32), minlength=math.prod(table), dtype=tf.int64)
    return tf.reshape(counts, table)


def _padded(table: np.ndarray, batching: Batching) -> float:
    """Expect how many tokens one side of an epoch's batches has with its padding.

    A batch is as wide as its longest row. Of k rows taken by chance, none is longer than l with
    probability F(l)^k, so the longest is expected to be the sum of 1 - F(l)^k over all l.
    """
    total = 0.0
    for counts, size in zip(table, batching.sizes, strict=True):
        full, rest = divmod(int(counts.sum()), size)
        share = np.cumsum(counts) / max(1, counts.sum())  # F
        for batches, rows in ((full, size), (1, rest)):
            total += batches * rows * (1 - share**rows).sum()
    return total
