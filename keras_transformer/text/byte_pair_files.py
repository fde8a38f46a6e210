"""The files that pieces and merges are published in."""

import json
from pathlib import Path
from typing import Any


def read_ids(path: Path) -> list[str]:
    """Read a JSON object with an id for each piece.

    Returns:
        The pieces in the order of their ids.

    Raises:
        OSError: If the file can't be read.
        ValueError: If it is something else, or the ids are not 0, 1 and so on.
    """

    def unique(entries: list[tuple[str, Any]]) -> dict[str, Any]:
        ids = dict(entries)
        if len(ids) < len(entries):
            again = next(p for i, (p, _) in enumerate(entries) if p in dict(entries[:i]))
            raise ValueError(f"it has {again!r} twice.")
        return ids

    ids = json.loads(path.read_bytes().decode("utf-8"), object_pairs_hook=unique)
    if not isinstance(ids, dict) or not all(type(i) is int for i in ids.values()):
        raise ValueError("it does not give a number for each piece.")
    pieces = sorted(ids, key=lambda piece: ids[piece])
    for i, piece in enumerate(pieces):
        if ids[piece] != i:
            raise ValueError(f"it should have id {i} once, and {piece!r} has {ids[piece]}.")
    return pieces


def read_merges(path: Path) -> list[tuple[str, str]]:
    """Read pairs of pieces, one a line.

    Raises:
        OSError: If the file can't be read.
        ValueError: If it is something else.
    """
    text = path.read_bytes().decode("utf-8").replace("\r\n", "\n")
    pairs = []
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        if number == 1 and (not line or line.startswith("#version")):
            continue
        parts = line.split(" ")
        if len(parts) != 2:
            raise ValueError(f"line {number} is {line!r}, not two pieces.")
        pairs.append((parts[0], parts[1]))
    return pairs
