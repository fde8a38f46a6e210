"""Byte-pair encoding as it began: a way to compress data.

What tokenisers do is named after it, but adds new symbols instead of using up bytes.

Reference: Gage 1994, "A New Algorithm for Data Compression".
"""

from collections import Counter
from itertools import pairwise

__all__ = ["bpe_compress", "bpe_decompress"]


def bpe_compress(data: bytes) -> bytes:
    """Replace the most common pair of bytes by a byte that does not occur, again and again.

    It ends when all bytes occur or no pair occurs often enough to make up for its entry.

    Returns:
        The number of replacements, three bytes for each in the order they were made (the new byte
        and the pair), and the data. It is at most one byte longer than `data`.
    """
    values = list(data)
    table: list[tuple[int, int, int]] = []
    unused = sorted(set(range(256)) - set(values), reverse=True)
    while unused:
        pairs = _count(values)
        pair, count = max(pairs.items(), key=lambda item: (item[1], item[0]), default=((0, 0), 0))
        if count <= 3:  # as long as the entry
            break
        new = unused.pop()
        table.append((new, *pair))
        values = _replace(values, pair, new)
    return bytes([len(table), *(byte for entry in table for byte in entry), *values])


def bpe_decompress(data: bytes) -> bytes:
    """Undo `bpe_compress`.

    Raises:
        ValueError: If `bpe_compress` did not make this.
    """
    if not data or len(data) < 1 + 3 * data[0]:
        raise ValueError("the data ends within its table.")
    size = data[0]
    strings = {byte: bytes([byte]) for byte in range(256)}
    for i in range(size):
        new, left, right = data[1 + 3 * i : 4 + 3 * i]
        strings[new] = strings[left] + strings[right]
    return b"".join(map(strings.__getitem__, data[1 + 3 * size :]))


def _count(values: list[int]) -> Counter[tuple[int, int]]:
    """Count pairs that do not overlap: `aaa` has one pair of `a`."""
    counts: Counter[tuple[int, int]] = Counter()
    last = None  # the pair that was counted at the place before
    for pair in pairwise(values):
        last = None if pair == last else pair
        counts[pair] += last is not None
    return counts


def _replace(values: list[int], pair: tuple[int, int], new: int) -> list[int]:
    made, i = [], 0
    while i < len(values):
        found = tuple(values[i : i + 2]) == pair
        made.append(new if found else values[i])
        i += 2 if found else 1
    return made
