"""The treatment of each character by BERT's reference, for all of its settings."""

import functools
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from keras_transformer.text import unicode

# Where characters may have case, accents or parts, ideographs aside.
_CHANGING = (
    *range(0x3400),
    *range(0xA000, 0xD800),
    *range(0xFB00, 0x20000),
    *range(0xE0100, 0xE01F0),
)
# Characters that have lower case in a later Unicode than Python 3.11's: the first, how many, how
# far apart, and the lower case of the first.
_LATER_LOWER_CASE = (
    *((0x1C89, 1, 1, 0x1C8A), (0xA7CB, 1, 1, 0x264), (0xA7CC, 2, 2, 0xA7CD)),
    *((0xA7D2, 2, 2, 0xA7D3), (0xA7DA, 1, 1, 0xA7DB), (0xA7DC, 1, 1, 0x19B)),
    *((0x10D50, 22, 1, 0x10D70), (0x16EA0, 25, 1, 0x16EBB)),
)
# Signs and letters that stay as they are under all rules: one of each stands for what is unknown.
_SIGNS = [c for c in map(chr, range(0x2190, 0x2300)) if unicodedata.normalize("NFD", c) == c]
_LETTERS = [chr(code) for code in range(0x1200, 0x1249)]
_LATER_COMPOSED = 0x11938  # the reference does not know its parts


class Rules(NamedTuple):
    """How characters are changed.

    Attributes:
        lowercase: Whether they are put into lower case.
        strip_accents: Whether they lose their accents.
        chinese_characters: Whether each Chinese character is a word of its own.
    """

    lowercase: bool
    strip_accents: bool
    chinese_characters: bool


def character_map(
    known: frozenset[str], rules: Rules, punctuation: bool = True
) -> tuple[list[bytes], np.ndarray]:
    """Return what each character becomes: a part of a word, a word of its own, a space, or nothing.

    What holds a character that no piece has becomes one mark, as its word is unknown anyway: a
    letter where it may be part of a word, or else a sign. This keeps tens of thousands of
    ideographs and syllables out of the table.

    Args:
        known: The characters of all pieces.
        rules: How characters are changed.
        punctuation: Whether marks of punctuation become words of their own.

    Returns:
        What `normalizer_model` takes: strings, and for each character which of them it becomes.
    """
    sign = next(c for c in _SIGNS if c not in known)
    letter = next(c for c in _LETTERS if c not in known)
    parts_of_words = unicode.members(unicode.WORD)
    strings = [b""]
    index: dict[str, int] = {}
    choice = np.zeros(unicode.CODE_POINTS, np.int32)

    def put(where: np.ndarray | int, string: str) -> None:
        if string not in index:
            index[string] = len(strings)
            strings.append(string.encode())
        choice[where] = index[string]

    _, marks, _ = _sets()
    ideographs = unicode.members(unicode.BERT_IDEOGRAPHS)
    around = " " if rules.chinese_characters else ""
    put(ideographs, around + sign + around)
    put(ideographs & parts_of_words, around + letter + around)
    for code in map(int, np.flatnonzero(ideographs)):
        parts = unicodedata.normalize("NFD", chr(code)) if rules.strip_accents else chr(code)
        if known.issuperset(parts):
            put(code, around + parts + around)
    for code, parts in _changed(rules):
        words = "".join(_word_of_its_own(c, punctuation) for c in parts)
        unknown = not known.issuperset(words.replace(" ", ""))
        splits = not marks.isdisjoint(parts) or " " in words
        if unknown and not splits:
            ends = [letter if parts_of_words[ord(c)] else sign for c in (parts[0], parts[-1])]
            words = "".join(dict.fromkeys(ends))
        put(code, words)
    put(unicode.members(unicode.BERT_WHITE_SPACE), " ")
    put(unicode.members(unicode.BERT_LEFT_OUT), "")
    return strings, choice


@functools.cache
def _sets() -> list[set[str]]:
    tables = unicode.BERT_WHITE_SPACE, unicode.BERT_PUNCTUATION, unicode.BERT_ACCENTS
    return [
        {chr(c) for first, last in unicode.ranges(table) for c in range(first, last + 1)}
        for table in tables
    ]


def _word_of_its_own(character: str, punctuation: bool) -> str:
    white_space, marks, _ = _sets()
    if character in white_space:
        return " "
    return f" {character} " if punctuation and character in marks else character


def _changed(rules: Rules) -> Iterator[tuple[int, str]]:
    """Yield the characters that may not stay as they are, and what they become."""
    _, punctuation, accents = _sets()
    if not rules.lowercase and not rules.strip_accents:
        yield from ((ord(c), c) for c in punctuation)
        return
    later = {
        first + i * step: chr(lower + i * step)
        for first, count, step, lower in _LATER_LOWER_CASE
        for i in range(count)
    }
    for code in _CHANGING:
        character = chr(code)
        parts = character
        if rules.strip_accents:
            if code != _LATER_COMPOSED:
                parts = unicodedata.normalize("NFD", character)
            parts = "".join(c for c in parts if c not in accents)
        if rules.lowercase:
            parts = later.get(code, "".join(c.lower() for c in parts))
        if parts != character or character in punctuation:
            yield code, parts
