"""Tables on disk: `.tsv`, with one tab between two fields and no quotes, and `.csv` (RFC 4180).

The first line may name the columns, in any order and beside others; then they are found by their
names. Otherwise every line has the columns, in their order.
"""

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from keras_transformer.errors import InputError
from keras_transformer.files import read_lines

TABLES = (".tsv", ".csv")

Lines: TypeAlias = Iterator[tuple[int, list[str]]]  # the fields of each line, with its number


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the rows of a table, without a first line that names the columns.

    Args:
        path: The file, UTF-8, plain or gzip; `.csv` in its name says that fields may be quoted.
        columns: The names of the columns.

    Yields:
        The number of the line that a row ends in, and a text for each column.

    Raises:
        InputError: If the file is missing, unreadable or not UTF-8, a row has another number of
            fields than there are columns, or the first line names some of the columns and not all.
    """
    rows = _quoted(path) if ".csv" in (s.lower() for s in path.suffixes) else _plain(path)
    width, places = len(columns), list(range(len(columns)))
    for first, (number, fields) in enumerate(rows):
        if not first and (found := _header(path, fields, columns)) is not None:
            width, places = len(fields), found
            continue
        if len(fields) != width:
            raise InputError(
                f"{path}, line {number:,}: {len(fields)} fields, but {width} are wanted "
                f"({', '.join(columns)}). Put one {_separator(path)} between two fields."
            )
        yield number, tuple(fields[place] for place in places)


def _header(path: Path, fields: Sequence[str], columns: Sequence[str]) -> list[int] | None:
    """Return where a first line that names columns has them; None if it names none."""
    names = [field.strip().casefold() for field in fields]
    wanted = [column.casefold() for column in columns]
    there = [column for column in wanted if column in names]
    if not there:
        return None
    missing = [column for column in wanted if column not in names]
    repeated = [name for name in there if names.count(name) > 1]
    if missing or repeated:
        problem = f"not {', '.join(missing)}" if missing else f"{repeated[0]} twice"
        raise InputError(
            f"{path}, line 1: the line names {', '.join(there)}, but {problem}. Name all columns "
            f"({', '.join(columns)}) in the first line. If it is an example and not a header, put "
            "a line with the names above it."
        )
    return [names.index(column) for column in wanted]


def _plain(path: Path) -> Lines:
    for number, line in enumerate(read_lines(path), 1):
        yield number, line.split("\t")


def _quoted(path: Path) -> Lines:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a passage may be long
    reader = csv.reader((f"{line}\n" for line in read_lines(path)), strict=True)
    try:
        for fields in reader:
            if fields:  # an empty line is no row
                yield reader.line_num, fields
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num:,}: no CSV ({error}). Put fields with a comma, a quote "
            'or a line break in "quotes", and write a quote inside of them twice.'
        ) from None


def _separator(path: Path) -> str:
    return "comma" if ".csv" in (s.lower() for s in path.suffixes) else "tab"
