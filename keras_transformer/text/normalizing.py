"""A map from characters to strings that runs in the graph, on every runtime.

tf.text's op FastBertNormalize replaces each character by what a table says. Its own table differs
from BERT's reference in thousands of characters; this module builds tables of our choosing in the
op's format.

The format is a FlatBuffer with a double-array trie (Aoe 1989) over the bytes of UTF-8. A node is a
32-bit unit: the byte that leads to it, whether it holds a value, and what to XOR with its own place
to find its children. Nodes below which everything is equal are shared.
"""

import flatbuffers
import numpy as np

from keras_transformer._quiet import quiet_stderr
from keras_transformer.text.unicode import CODE_POINTS
from keras_transformer.typing import Strings, Tensor

with quiet_stderr():
    from tensorflow_text.python.ops.fast_bert_normalizer import gen_fast_bert_normalizer

_DIFFERENT = 1 << 30  # in a value: the character is replaced
_LENGTH_BITS = 6
_VALUE = 1 << 31  # in a unit: it is a value, and no node
_HAS_VALUE = 1 << 8
_ROOT = 256  # where the children of the root are


def normalizer_model(strings: list[bytes], choice: np.ndarray) -> np.ndarray:
    """Build the table of a map from characters to strings.

    Args:
        strings: What characters are replaced by, at most 63 bytes each. The first is not used.
        choice: Integer array `(CODE_POINTS,)`: for each character the index of its string, or 0
            if it stays as it is.

    Returns:
        Uint8 array, the `fast_bert_normalizer_model` of FastBertNormalize.

    Raises:
        ValueError: If a string is too long.
    """
    longest = max(map(len, strings))
    if longest >= 1 << _LENGTH_BITS:
        raise ValueError(f"a string has {longest} bytes; the most is {(1 << _LENGTH_BITS) - 1}.")
    starts = np.cumsum([0, *map(len, strings)])
    values = [
        _DIFFERENT | int(start) << _LENGTH_BITS | len(string)
        for string, start in zip(strings, starts, strict=False)
    ]
    trie = _Trie(values, choice)
    builder = flatbuffers.Builder(len(trie.units) * 4 + int(starts[-1]) + 256)
    pool = builder.CreateNumpyVector(np.frombuffer(b"".join(strings) or b"\0", np.uint8))
    units = builder.CreateNumpyVector(trie.units)
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(1, units, 0)
    builder.PrependInt32Slot(2, values[choice[0]] if choice[0] else 0, 0)  # a trie has no NUL
    builder.PrependUOffsetTRelativeSlot(3, pool, 0)
    builder.Finish(builder.EndObject())
    return np.frombuffer(bytes(builder.Output()), np.uint8)


def normalized(text: Strings, model: Tensor) -> Strings:
    """Replace each character of strings `(B,)` as a table of `normalizer_model` says."""
    return gen_fast_bert_normalizer.fast_bert_normalize(
        input_values=text, fast_bert_normalizer_model=model, get_offsets=False
    )[0]


class _Trie:
    def __init__(self, values: list[int], choice: np.ndarray) -> None:
        self._values = values
        self._places: dict[int, int] = {}  # of values
        self._blocks: dict[bytes, int] = {}  # the place of 64 children, by all that is below them
        self._units = [0] * (2 * _ROOT)
        self._units[0] = _ROOT << 10
        choice = np.concatenate([choice, np.zeros(5 * 64**3 - CODE_POINTS, choice.dtype)])
        for code in range(1, 0x80):
            if choice[code]:
                self._set_value(_ROOT + code, code, choice[code])
        for marker, size, first in ((0xC0, 64, 0x80), (0xE0, 64**2, 0x800), (0xF0, 64**3, 0x10000)):
            for i in range({64: 32, 64**2: 16, 64**3: 5}[size]):
                below = choice[i * size : (i + 1) * size].copy()
                below[: max(0, first - i * size)] = 0  # shorter sequences say those
                self._set_children(_ROOT + (marker | i), marker | i, below)
        self.units = np.array(self._units, np.uint32)

    def _set_value(self, place: int, label: int, index: int) -> None:
        if index not in self._places:
            self._places[index] = len(self._units)
            self._units.append(_VALUE | self._values[index])
        self._units[place] = label | _HAS_VALUE | (place ^ self._places[index]) << 10

    def _set_children(self, place: int, label: int, below: np.ndarray) -> None:
        if not below.any():
            return
        key = below.tobytes()
        if key not in self._blocks:
            # A region of its own, in which no other node can be mistaken for a child.
            self._units += [0] * (-len(self._units) % 64)
            start = len(self._units)
            self._blocks[key] = start
            self._units += [0] * 64
            for i, part in enumerate(np.split(below, 64)):
                if len(part) > 1:
                    self._set_children(start + i, 0x80 | i, part)
                elif part[0]:
                    self._set_value(start + i, 0x80 | i, int(part[0]))
        self._units[place] = label | (place ^ self._blocks[key] ^ 0x80) << 10
