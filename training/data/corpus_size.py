"""How much there is to train on, counted before training."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_transformer._tensorflow import tf
from keras_transformer.errors import InputError
from keras_transformer.training.data.batching import ALONE, Batching, Worker
from keras_transformer.training.data.featurizing import Featurize, featurized, find_usable
from keras_transformer.training.data.reading import (
    Group,
    Source,
    groups_of,
    paths_of,
    read,
    shares_of,
)
from keras_transformer.typing import Tensor


@dataclasses.dataclass(frozen=True)
class CorpusSize:
    """The size of a corpus or of records.

    Args:
        examples: Examples that are used; of parallel text, pairs.
        too_long: Examples left out because they are longer than `max_length`.
        empty: Examples left out because a column is blank, or has no tokens.
        tokens: Tokens of the examples used, special ones included, by the inputs that decide the
            length, such as "source_ids".
        padded_tokens: All of them with the padding of an epoch, as is to be expected if chance
            decides which examples of a bucket share a batch.
        batches: Batches in one epoch. Of a mixture with weights, those that deliver as many
            examples as it has.
        labels: How often each label occurs, where there are labels.
        parts: Of a mixture with weights, the size of each part.
    """

    examples: int
    too_long: int
    empty: int
    tokens: dict[str, int]
    padded_tokens: int
    batches: int
    labels: dict[str, int] = dataclasses.field(default_factory=dict)
    parts: tuple["CorpusSize", ...] = ()

    @property
    def pairs(self) -> int:
        """The number of examples, which are pairs in parallel text."""
        return self.examples

    @property
    def source_tokens(self) -> int:
        """Tokens of the sources of pairs, end tokens included."""
        return self.tokens["source_ids"]

    @property
    def target_tokens(self) -> int:
        """Tokens of the targets of pairs, end tokens included."""
        return self.tokens["target_ids"]

    @property
    def padding(self) -> float:
        """The share of padding in the batches of an epoch."""
        return 1 - sum(self.tokens.values()) / self.padded_tokens

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "CorpusSize":
        """Make it of what `dataclasses.asdict` gave."""
        return cls(**{**fields, "parts": tuple(cls.from_dict(part) for part in fields["parts"])})


FIELDS = [field.name for field in dataclasses.fields(CorpusSize)]  # other versions have others


def count_examples(
    source: Source,
    featurize: Featurize,
    batching: Batching,
    *,
    worker: Worker = ALONE,
    length_of: Sequence[str] = ("token_ids",),
) -> CorpusSize:
    """Count what one epoch delivers.

    Args:
        source: What to read from.
        featurize: As in `make_example_batches`.
        batching: Size and length of batches.
        worker: Whose share to count.
        length_of: As in `make_example_batches`.

    Raises:
        InputError: If no example is left.
    """
    parts = [
        _count(group, source.columns, featurize, batching, worker, length_of)
        for group in groups_of(source)
    ]
    if len(parts) == 1:
        return parts[0]
    examples, too_long, empty, padded = (
        sum(getattr(part, name) for part in parts)
        for name in ("examples", "too_long", "empty", "padded_tokens")
    )
    tokens = {name: sum(part.tokens[name] for part in parts) for name in parts[0].tokens}
    shares = zip(shares_of(source), parts, strict=True)
    batches = math.ceil(examples * sum(share * p.batches / p.examples for share, p in shares))
    return CorpusSize(examples, too_long, empty, tokens, padded, batches, parts=tuple(parts))


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
    return hashlib.sha256(json.dumps([files, decides, FIELDS]).encode()).hexdigest()


def _count(
    group: Group,
    columns: Sequence[str],
    featurize: Featurize,
    batching: Batching,
    worker: Worker,
    length_of: Sequence[str],
) -> CorpusSize:
    bounds = tf.constant(batching.lengths, tf.int64)
    names = [*length_of] or ["whole"]
    table = [len(bounds), batching.max_length + 1]  # examples by bucket and length of an input

    def count(state: tuple[Tensor, ...], chunk: tuple[Any, ...]) -> tuple[Tensor, ...]:
        _, blank, inputs, _ = chunk
        lengths, usable, too_long, empty = find_usable(inputs, length_of, batching.max_length)
        lengths = [tf.boolean_mask(length, usable) for length in lengths]
        bucket = tf.searchsorted(bounds, tf.reduce_max(lengths, axis=0), out_type=tf.int64)
        cells = [_count_each(bucket * table[1] + length, table) for length in lengths]
        return (
            state[0] + tf.stack(cells),
            state[1] + tf.math.count_nonzero(too_long),
            state[2] + blank + tf.math.count_nonzero(empty),
        )

    zero = tf.constant(0, tf.int64)
    start = (tf.zeros([len(names), *table], tf.int64), zero, zero)
    chunks = featurized(read(group, worker), columns, featurize, length_of)
    totals = chunks.reduce(start, count)
    tables, too_long, empty = (total.numpy() for total in totals)
    in_bucket = tables[0].sum(axis=1)
    if not in_bucket.sum():
        raise InputError(
            f"No example of {_names(group)} can be used: {too_long:,} have more than "
            f"{batching.max_length} tokens, {empty:,} have an empty column."
        )
    lengths = np.arange(table[1])
    return CorpusSize(
        examples=int(in_bucket.sum()),
        too_long=int(too_long),
        empty=int(empty),
        tokens={
            name: int((counts * lengths).sum()) for name, counts in zip(names, tables, strict=True)
        },
        padded_tokens=round(sum(_padded(counts, batching) for counts in tables)),
        batches=sum(-(-int(n) // size) for n, size in zip(in_bucket, batching.sizes, strict=True)),
    )


def _names(group: Group) -> str:
    paths = paths_of(group)
    several = len(paths) > 2
    more = f" (and {len(paths) - 2:,} more files)" if several else ""
    return " and ".join(str(path) for path in paths[:2]) + more


def _count_each(cells: Tensor, table: list[int]) -> Tensor:
    counts = tf.math.bincount(tf.cast(cells, tf.int32), minlength=math.prod(table), dtype=tf.int64)
    return tf.reshape(counts, table)


def _padded(table: np.ndarray, batching: Batching) -> float:
    """Expect how many tokens one input of an epoch's batches has with its padding.

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
