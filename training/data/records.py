"""Examples on disk: tables, JSON lines and plain lines, and pictures in folders.

Nothing here holds more than a line at a time, and nothing but the check of pictures needs
TensorFlow.
"""

import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from keras_transformer.errors import InputError
from keras_transformer.files import find_files, read_lines
from keras_transformer.training.data.tables import TABLES, read_table

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
JSON_LINES = (".jsonl", ".json")

Record = tuple[str, ...]  # a text for each column


class RecordSource(Protocol):
    """A source of examples, which is read again and again."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        ...

    @property
    def paths(self) -> list[Path]:
        """The files."""
        ...

    def __iter__(self) -> Iterator[Record]:
        """Yield the examples in order."""
        ...

    def located(self) -> Iterator[tuple[str, Record]]:
        """Yield the examples in order, each with the place where it stands."""
        ...

    def check(self) -> int:
        """Read all to the end, and return the number of examples."""
        ...


@dataclasses.dataclass(frozen=True)
class Records:
    """Files of examples, plain or gzip; `read_records` tells what is in them.

    Args:
        path: A file, or a pattern such as `data/train-*.jsonl.gz`, whose files are read in sorted
            order. A name that exists is taken as it is, whatever is in it.
        columns: The names of the columns.

    Raises:
        InputError: If columns are missing or named twice.
    """

    path: Path
    columns: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse columns that can't be told apart."""
        _check_columns(self.columns)

    @property
    def paths(self) -> list[Path]:
        """The files.

        Raises:
            InputError: If there are none.
        """
        return find_files(Path(self.path))

    def __iter__(self) -> Iterator[Record]:
        """Yield the examples in order."""
        return (record for _, record in self.located())

    def located(self) -> Iterator[tuple[str, Record]]:
        """Yield the examples in order, each with its file and line."""
        for path in self.paths:
            for number, record in _numbered(path, self.columns):
                yield f"{path}, line {number:,}", record

    def check(self) -> int:
        """Read all files to the end and return the number of examples.

        Raises:
            InputError: If a file is missing, unreadable or damaged, or if all are empty. The
                message names the file and the line.
        """
        count = sum(1 for _ in self)
        if not count:
            raise InputError(f"{self.path} is empty: there is no example in it.")
        return count


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """Pictures in one folder a class, as examples of a file's name and a label.

    The labels are the names of the folders. Names that begin with a dot are left out.

    Args:
        path: The folder that holds the classes' folders.
    """

    path: Path
    columns: tuple[str, ...] = dataclasses.field(default=("path", "label"), init=False)

    @property
    def labels(self) -> list[str]:
        """The labels, sorted.

        Raises:
            InputError: If there is no such folder, or fewer than two classes in it.
        """
        folders = [path.name for path in _visible(Path(self.path)) if path.is_dir()]
        if len(folders) < 2:
            found = f"only {folders[0]}" if folders else "none"
            raise InputError(
                f"{self.path} must hold a folder for each of at least two classes, but there is "
                f"{found}."
            )
        return folders

    @property
    def paths(self) -> list[Path]:
        """The pictures."""
        return [Path(name) for name, _ in self]

    def __iter__(self) -> Iterator[Record]:
        """Yield the name and the label of each picture, sorted by label and name.

        Raises:
            InputError: If a class has no pictures, or a file is no picture by its name.
        """
        root = Path(self.path)
        for label in self.labels:
            empty = True
            for path in _visible(root / label):
                empty = False
                if path.suffix.lower() not in PICTURES or path.is_dir():
                    raise InputError(
                        f"{path} is not a picture with a known ending ({', '.join(PICTURES)}): "
                        "convert it, or move it elsewhere."
                    )
                yield str(path), label
            if empty:
                raise InputError(
                    f"{root / label} holds no pictures: fill the folder, or remove it."
                )

    def located(self) -> Iterator[tuple[str, Record]]:
        """Yield the examples in order, each with the picture's name."""
        return ((record[0], record) for record in self)

    def check(self) -> int:
        """Decode every picture and return their number.

        Raises:
            InputError: If a picture is damaged or unreadable, or as on iteration. Also if a
                picture stands outside of the classes' folders.
        """
        import tensorflow as tf

        for path in _visible(Path(self.path)):
            if path.suffix.lower() in PICTURES and not path.is_dir():
                raise InputError(f"{path} is in no class: move it into the folder of one.")
        count = 0
        for name, _ in self:
            try:
                tf.io.decode_image(Path(name).read_bytes(), expand_animations=False)
            except OSError as error:
                raise InputError(f"{name} can't be read: {error.strerror}.") from None
            except tf.errors.InvalidArgumentError:
                raise InputError(
                    f"{name} can't be decoded: it is damaged, or no PNG, JPEG, BMP or GIF."
                ) from None
            count += 1
        return count


def read_records(path: Path | str, columns: Sequence[str]) -> Iterator[Record]:
    """Yield the examples of one file.

    The name's ending says what is in the file, also with `.gz` behind it, which is unpacked:

    - `.jsonl` or `.json`: a JSON object a line, with a key for each column and any others. A number
      or a truth value becomes the text as which it was written. A list of texts becomes one text
      with spaces between them.
    - `.tsv` or `.csv`: a row a line, with one tab between two fields and no quotes, or as RFC 4180
      says; see `tables.py` for a first line that names the columns.
    - anything else: lines of text, the one column.

    Args:
        path: The file, UTF-8.
        columns: The names of the columns.

    Returns:
        Iterator of tuples, a text for each column.

    Raises:
        InputError: If the file is missing, unreadable or not UTF-8, or a line does not hold the
            columns. The message names the file and the line.
    """
    _check_columns(columns)
    return (record for _, record in _numbered(Path(path), tuple(columns)))


def count_labels(records: RecordSource, column: str) -> dict[str, int]:
    """Count how often each label occurs; the labels are sorted.

    Args:
        records: The examples.
        column: Name of the column with the labels.

    Raises:
        InputError: If a label is empty, or there is no such column.
    """
    index = _index_of(records, column)
    labels: Counter[str] = Counter()
    for place, record in records.located():
        if not record[index].strip():
            raise InputError(f"{place}: the label in column {column} is empty.")
        labels[record[index]] += 1
    return dict(sorted(labels.items()))


def label_set(records: RecordSource, column: str) -> list[str]:
    """Return the labels that occur, sorted; arguments as for `count_labels`.

    Raises:
        InputError: If there are fewer than two, a label is empty, or there is no such column.
    """
    labels = sorted(count_labels(records, column))
    if len(labels) < 2:
        found = f"only {labels[0]!r}" if labels else "none"
        raise InputError(
            f"Column {column} must hold at least two labels to choose from, but there is {found}."
        )
    return labels


def check_labels(records: RecordSource, column: str, labels: Sequence[str]) -> None:
    """Make sure that no label occurs but those that are known.

    Args:
        records: The examples.
        column: Name of the column with the labels.
        labels: The labels that are known, such as those of the training data.

    Raises:
        InputError: If there is another; the message names the first line with one.
    """
    index, known = _index_of(records, column), set(labels)
    for place, record in records.located():
        if record[index] not in known:
            raise InputError(
                f"{place}: the label {record[index]!r} in column {column} is unknown; the labels "
                f"are {_some(labels)}."
            )


def _numbered(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, Record]]:
    """Yield the number of each line and what is in it."""
    ending = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()
    lines = enumerate(read_lines(path), 1)
    if ending in JSON_LINES:
        yield from ((number, _from_json(path, number, line, columns)) for number, line in lines)
    elif ending in TABLES:
        yield from read_table(path, columns)
    elif len(columns) != 1:
        raise InputError(
            f"{path} is taken for lines of text, which is one column, but {len(columns)} are "
            f"wanted ({', '.join(columns)}): give a .jsonl, .tsv or .csv file."
        )
    else:
        yield from ((number, (line,)) for number, line in lines)


def _from_json(path: Path, number: int, line: str, columns: Sequence[str]) -> Record:
    place = f"{path}, line {number:,}"
    try:
        # What is no text and no group is taken as it is written: 1.50 stays 1.50.
        fields = json.loads(line, parse_int=str, parse_float=str, parse_constant=str)
    except (json.JSONDecodeError, RecursionError) as error:
        reason = getattr(error, "msg", "nested too deeply")
        raise InputError(
            f"{place}: no JSON ({reason}). Each line must be one object, such as "
            f"{{{', '.join(f'{json.dumps(name)}: ...' for name in columns)}}}."
        ) from None
    if not isinstance(fields, dict):
        raise InputError(f"{place}: no JSON object with the keys {', '.join(columns)}.")
    texts = []
    for name in columns:
        if name not in fields:
            raise InputError(f"{place}: the key {name!r} is missing; there is {_some(fields)}.")
        texts.append(_as_text(place, name, fields[name]))
    return tuple(texts)


def _as_text(place: str, name: str, value: Any) -> str:
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = " ".join(value)
    if not isinstance(value, str):
        kind = {type(None): "null", dict: "an object", list: "a list of other things"}[type(value)]
        raise InputError(
            f"{place}: the value of {name!r} is {kind}; it must be a text, a number or a list of "
            "texts."
        )
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise InputError(f"{place}: the value of {name!r} holds half of a surrogate pair.")
    return value


def _check_columns(columns: Sequence[str]) -> None:
    if isinstance(columns, str) or not columns or len(set(columns)) < len(columns):
        raise InputError(f"Columns must be names, each given once, got {columns!r}.")


def _index_of(records: RecordSource, column: str) -> int:
    if column not in records.columns:
        raise InputError(f"There is no column {column!r}; there is {_some(records.columns)}.")
    return records.columns.index(column)


def _some(names: Collection[str], most: int = 10) -> str:
    """List names in a message, but not hundreds of them."""
    shown = [str(name) for name in itertools.islice(names, most)]
    rest = len(names) - len(shown)
    return (", ".join(shown) or "none") + (f" and {rest:,} more" if rest else "")


def _visible(folder: Path) -> list[Path]:
    """List what a folder holds, sorted, without names that begin with a dot."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder} can't be read as a folder: {error.strerror}.") from None
