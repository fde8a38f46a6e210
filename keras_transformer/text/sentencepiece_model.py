"""The model files of SentencePiece: protocol buffers, read and written by code of our own.

Field 1 is a piece (1 its name, 2 its score, 3 its kind), field 2 how the model was trained (3 the
algorithm), field 3 how text is normalised (2 a table of characters, 3 whether a space is put before
it, 4 whether extra spaces go).
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

UNIGRAM = 1
_UNKNOWN_ID = 40  # a field of how a model was trained
_LABELS = np.arange(256)
_LONGEST = 64  # bytes of a key; a damaged tree may have circles
# Kinds of pieces.
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


class Model(NamedTuple):
    """The content of a SentencePiece model.

    Attributes:
        pieces: The pieces with their kinds.
        strips: Whether spaces that are too many are left out.
        begins_words: Whether a space is put before a text.
        table: What characters become, in SentencePiece's format; see `read_table`.
    """

    pieces: list[tuple[str, int]]
    strips: bool
    begins_words: bool
    table: bytes


def read_model(model: bytes) -> Model:
    """Read a model file.

    Raises:
        ValueError: If it is damaged, not a unigram model, or uses bytes as pieces.
    """
    pieces, algorithm, strips, begins_words, table = [], UNIGRAM, True, True, b""
    try:
        for field, content in _fields(model):
            if field == 1:
                parts = dict(_fields(content))
                pieces.append((parts[1].decode("utf-8"), parts.get(3, 1)))
            elif field == 2:
                algorithm = dict(_fields(content)).get(3, UNIGRAM)
            elif field == 3:
                settings = dict(_fields(content))
                begins_words, strips = (bool(settings.get(i, True)) for i in (3, 4))
                table = bytes(settings.get(2, b""))
    except (IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError("it is damaged.") from error
    if not pieces:
        raise ValueError("it has no pieces.")
    if algorithm != UNIGRAM:
        raise ValueError("it is not a unigram model.")
    if any(kind == BYTE for _, kind in pieces):
        raise ValueError("it spells what is unknown in bytes, which is not supported.")
    return Model(pieces, strips, begins_words, table)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the fields of a protocol buffer by number."""
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(data):
        key = number()
        if key & 7 == 0:
            yield key >> 3, number()
            continue
        size = {1: 8, 5: 4}.get(key & 7) or number()
        if key & 7 in (3, 4, 6, 7) or place + size > len(data):
            raise IndexError
        yield key >> 3, data[place : place + size]
        place += size


def write_model(
    pieces: Sequence[tuple[str, float, int]], table: bytes, spaces: bool = True
) -> bytes:
    """Make a unigram model.

    Args:
        pieces: Names, scores and kinds, in the order of their ids.
        table: What characters become, in SentencePiece's format; empty to leave them as they are.
        spaces: Whether a space is put before a text, and extra ones are left out.
    """
    parts = []
    for name, score, kind in pieces:
        piece = _bytes(1, name.encode()) + b"\x15" + struct.pack("<f", score) + _number(3, kind)
        parts.append(_bytes(1, piece))
    unknown = next(i for i, (_, _, kind) in enumerate(pieces) if kind == UNKNOWN)
    parts.append(_bytes(2, _number(3, UNIGRAM) + _number(_UNKNOWN_ID, unknown)))
    parts.append(
        _bytes(3, _bytes(2, table) + _number(3, spaces) + _number(4, spaces) + _number(5, 1))
    )
    return b"".join(parts)


def read_table(table: bytes) -> dict[str, str]:
    """Read what characters become.

    It is the size of a tree in bytes, a double-array tree of strings with offsets, and the strings
    at those offsets, each ended by NUL.

    Args:
        table: The table; an empty one changes nothing.

    Raises:
        ValueError: If it is damaged.
    """
    if not table:
        return {}
    size = int.from_bytes(table[:4], "little")
    if size % 4 or not 0 < size <= len(table) - 4:
        raise ValueError("its table of characters is damaged.")
    units = np.frombuffer(table, "<u4", size // 4, 4)
    strings = table[4 + size :]
    rules = {}
    waiting = [(0, b"")]
    try:
        while waiting:
            place, key = waiting.pop()
            unit = int(units[place])
            place ^= (unit >> 10) << ((unit & 1 << 9) >> 6)
            if key and unit >> 8 & 1:
                start = int(units[place]) & 0x7FFFFFFF
                rules[key.decode()] = strings[start : strings.index(b"\0", start)].decode()
            block = place ^ _LABELS
            inside = _LABELS[block < len(units)]
            for label in inside[units[place ^ inside] & (1 << 31 | 0xFF) == inside].tolist():
                if label and len(key) < _LONGEST:
                    waiting.append((place ^ label, key + bytes([label])))
    except (IndexError, ValueError) as error:
        raise ValueError("its table of characters is damaged.") from error
    return rules


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    made = bytearray()
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])
