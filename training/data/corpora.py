"""Parallel text on disk: one pair of files, many by a pattern, or a mixture with weights.

Nothing here holds more than a line at a time, and nothing needs TensorFlow.
"""

import contextlib
import dataclasses
import itertools
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from keras_transformer.errors import InputError
from keras_transformer.files import find_files, read_lines

FilePair = tuple[Path, Path]  # source and target


@dataclasses.dataclass(frozen=True)
class ParallelFiles:
    """Text files, plain or gzip, whose lines belong together.

    Each side is a file or a pattern such as `data/train-*.en.gz`. The files that the two patterns
    match are put together in sorted order. A name that exists is taken as it is, whatever is in it.

    Args:
        source: The file or files with the source texts, UTF-8, one a line.
        target: The file or files with the target texts.
        columns: What the two are called.

    Raises:
        InputError: If there are not two columns of different names.
    """

    source: Path
    target: Path
    columns: tuple[str, ...] = ("source", "target")

    def __post_init__(self) -> None:
        """Refuse columns that are not those of a pair."""
        if len(set(self.columns)) != 2 or len(self.columns) != 2:
            raise InputError(
                f"A pair has two columns of different names, got {', '.join(self.columns)}."
            )

    @property
    def pairs(self) -> list[FilePair]:
        """The files, source and target.

        Raises:
            InputError: If there are none, or not as many sources as targets.
        """
        sources, targets = find_files(Path(self.source)), find_files(Path(self.target))
        if len(sources) != len(targets):
            raise InputError(
                f"{self.source} and {self.target} are different numbers of files, "
                f"{len(sources):,} and {len(targets):,}: they are put together in sorted order."
            )
        return list(zip(sources, targets, strict=True))

    @property
    def paths(self) -> list[Path]:
        """The files, each source before its target."""
        return [path for pair in self.pairs for path in pair]

    def named(self, columns: tuple[str, ...]) -> "ParallelFiles":
        """Return the same with other names of the columns."""
        return dataclasses.replace(self, columns=columns)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield the pairs in order; see `read_pairs`."""
        return (pair for _, pair in self.located())

    def located(self) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yield the pairs in order, each with its source's file and line."""
        for files in self.pairs:
            for number, pair in enumerate(read_pairs(*files), 1):
                yield f"{files[0]}, line {number:,}", pair

    @property
    def groups(self) -> list[list[FilePair]]:
        """The files that are shuffled together: all."""
        return [self.pairs]

    @property
    def shares(self) -> list[float]:
        """The share that each group has of the pairs that are trained on."""
        return [1.0]

    def check(self) -> int:
        """Read all files to the end and return the number of lines of one side.

        Raises:
            InputError: If a file is missing, unreadable or not UTF-8, if all are empty, or if one
                has more lines than the other. The message names the file and the line.
        """
        count = sum(1 for _ in self)
        if not count:
            raise InputError(f"{self.source} and {self.target} are empty.")
        return count

    def lines(self) -> Iterator[str]:
        """Yield every line of the sources, then every line of the targets."""
        for side in zip(*self.pairs, strict=True):
            for path in side:
                yield from read_lines(path)


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Several parallel texts to be trained on together.

    Args:
        parts: The texts.
        weights: How many pairs to take of each part, relative to the others. None: all files are
            one text, of which each line comes once an epoch.

    Raises:
        InputError: If there are no parts, not as many weights as parts, or a weight is not
            positive.
    """

    parts: tuple[ParallelFiles, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse weights that can't be used."""
        if not self.parts:
            raise InputError("A mixture needs a text; give --source and --target.")
        if self.weights is None:
            return
        if len(self.weights) != len(self.parts):
            raise InputError(
                f"The numbers of texts and weights differ, {len(self.parts)} and "
                f"{len(self.weights)}; give one weight a text, in the same order, or none."
            )
        for weight in self.weights:
            if not (weight > 0 and math.isfinite(weight)):
                raise InputError(f"A weight must be positive, got {weight!r}; leave the text out.")

    @property
    def pairs(self) -> list[FilePair]:
        """The files of all parts, as `ParallelFiles.pairs`."""
        return [pair for part in self.parts for pair in part.pairs]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the two sides."""
        return self.parts[0].columns

    @property
    def paths(self) -> list[Path]:
        """The files, each source before its target."""
        return [path for part in self.parts for path in part.paths]

    def named(self, columns: tuple[str, ...]) -> "Mixture":
        """Return the same with other names of the columns."""
        return Mixture(tuple(part.named(columns) for part in self.parts), self.weights)

    @property
    def groups(self) -> list[list[FilePair]]:
        """The files that are shuffled together: those of a part, or all without weights."""
        return [self.pairs] if self.weights is None else [part.pairs for part in self.parts]

    @property
    def shares(self) -> list[float]:
        """The share that each group has of the pairs that are trained on."""
        weights = self.weights or (1.0,)
        return [weight / sum(weights) for weight in weights]

    def check(self) -> int:
        """Check every part, and return the number of lines in all."""
        return sum(part.check() for part in self.parts)

    def lines(self) -> Iterator[str]:
        """Yield every line of every part, once, whatever the weights."""
        for part in self.parts:
            yield from part.lines()


Corpus: TypeAlias = ParallelFiles | Mixture


def make_corpus(
    sources: Sequence[Path | str],
    targets: Sequence[Path | str],
    weights: Sequence[float] | None = None,
) -> Corpus:
    """Put names together as they are given on the command line.

    Args:
        sources: Files or patterns.
        targets: As many files or patterns.
        weights: One a text, or None or nothing for none.

    Returns:
        `ParallelFiles` if there is one text, otherwise a `Mixture`.

    Raises:
        InputError: If there are not as many sources as targets, or the weights do not fit.
    """
    if len(sources) != len(targets):
        raise InputError(
            f"The numbers of sources and targets differ, {len(sources)} and {len(targets)}; give "
            "each source text its target text, in the same order."
        )
    parts = tuple(ParallelFiles(Path(s), Path(t)) for s, t in zip(sources, targets, strict=True))
    mixture = Mixture(parts, tuple(weights) if weights else None)
    return parts[0] if len(parts) == 1 else mixture


def count_lines(path: Path | str) -> int | None:
    """Count the lines of a file; None if it can be read only once, as a pipe can.

    Raises:
        InputError: As `read_lines`.
    """
    return sum(1 for _ in read_lines(path)) if Path(path).is_file() else None


@contextlib.contextmanager
def spooled(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Give files that can be read several times: what is a pipe is copied to a file meanwhile.

    Args:
        *paths: Names of files and of pipes, such as `/dev/stdin`.

    Yields:
        The same names, or those of the copies.

    Raises:
        InputError: If a pipe can't be copied.
    """
    with tempfile.TemporaryDirectory(prefix="keras-transformer-") as folder:
        given = []
        for number, path in enumerate(paths):
            if path.exists() and not path.is_file() and not path.is_dir():
                copy = Path(folder) / f"{number}-{path.name}"
                try:
                    with path.open("rb") as pipe, copy.open("wb") as file:
                        shutil.copyfileobj(pipe, file)
                except OSError as error:
                    raise InputError(f"{path} can't be copied: {error}.") from None
                path = copy
            given.append(path)
        yield tuple(given)


def read_pairs(source: Path, target: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of two files that belong together.

    Args:
        source: A file, plain or gzip.
        target: Another, with as many lines.

    Raises:
        InputError: If a file is missing, unreadable or not UTF-8, has fewer lines than the other,
            or a carriage return inside of a line.
    """
    lines = itertools.zip_longest(read_lines(source), read_lines(target))
    for number, pair in enumerate(lines, 1):
        if None in pair:
            short, long = (source, target) if pair[0] is None else (target, source)
            rest = sum(1 for _ in lines)
            raise InputError(
                f"{short} has {number - 1:,} lines, but {long} has {number + rest:,}: line "
                f"{number:,} is missing in {short}. Lines of the two files belong together."
            )
        for path, line in zip((source, target), pair, strict=True):
            if "\r" in line:
                raise InputError(
                    f"{path}, line {number:,}: a carriage return inside the line. End lines "
                    "with a line feed alone, or with both."
                )
        yield pair
