"""Learns the merges of byte-level byte-pair encoding from text.

Text is cut into words as GPT-2 does it, words into bytes, and then, again and again, the most
frequent pair of neighbours is merged (Sennrich et al., 2016). Equal counts are settled by the
alphabetical order of the two pieces, as they are spelled in GPT-2's alphabet.
"""

import functools
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from keras_transformer.text import unicode
from keras_transformer.text.byte_alphabet import CHARACTERS, spell
from keras_transformer.text.learner import SPECIAL_TOKENS, Learner, count_words, track

__all__ = ["learn_byte_pairs", "split_words"]


def learn_byte_pairs(
    texts: Iterable[str],
    vocabulary_size: int,
    *,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    min_frequency: int = 2,
    max_words: int = 2_000_000,
    progress: bool = False,
) -> tuple[list[str], list[tuple[str, str]]]:
    """Learn byte-level byte-pair encoding.

    The same texts in the same order always give the same merges. A size is needed: merging
    could go on until every word is one piece.

    Args:
        texts: The lines of text to learn from, read once.
        vocabulary_size: The number of entries wanted. There are fewer only if no pair is left that
            may be merged.
        special_tokens: Entries put first, in this order. No learned piece equals one of them.
        min_frequency: Pairs counted less often than this are not merged.
        max_words: How many different words are held in memory. Beyond it the rarest are dropped.
        progress: Show progress bars on standard error. Needs the package `rich`.

    Returns:
        The vocabulary (the special tokens, the 256 bytes in their order, the merged pieces in the
        order learned) and the merges, for `BytePairTokenizer`.

    Raises:
        TypeError: If `texts` is one string.
        ValueError: If an argument is out of its range, a special token is repeated or is a byte's
            name, the texts are empty, or `vocabulary_size` is too small for the special tokens and
            the bytes.

    Example:
        >>> vocabulary, merges = learn_byte_pairs(["low lower lowest"], 263)
        >>> merges
        [('l', 'o'), ('lo', 'w'), ('low', 'e')]
    """
    if min_frequency < 1:
        raise ValueError(f"min_frequency is {min_frequency}; it must be at least 1.")
    if vocabulary_size > sys.maxunicode:
        raise ValueError(f"vocabulary_size is {vocabulary_size}; the most is {sys.maxunicode}.")
    vocabulary = [*special_tokens, *CHARACTERS]
    repeated = [token for token, count in Counter(vocabulary).items() if count > 1]
    if repeated:
        raise ValueError(f"special_tokens holds {repeated[0]!r}, which is there already.")
    if len(vocabulary) > vocabulary_size:
        raise ValueError(
            f"vocabulary_size is {vocabulary_size}, but {len(vocabulary)} entries are needed: "
            f"{len(special_tokens)} special tokens and 256 bytes."
        )
    words = count_words(texts, max_words, progress, split_words)
    if not words:
        raise ValueError("texts holds nothing; give at least one line that is not empty.")
    spelled = {spell(word.encode()): count for word, count in words.items()}
    learner = Learner(spelled, CHARACTERS, "frequency", min_frequency, mark="")
    del words, spelled  # The learner holds them in its own form, and there can be millions.
    pieces = learner.learn(forbidden=set(special_tokens), split_digits=False)
    wanted = vocabulary_size - len(vocabulary)
    vocabulary += track(islice(pieces, wanted), "Merging", "pieces", progress, wanted)
    return vocabulary, learner.merges


def split_words(text: str) -> list[str]:
    """Cut a text as GPT-2 does; joined, the words are the text.

    Example:
        >>> split_words("I'm 12, they said.")
        ['I', "'m", ' 12', ',', ' they', ' said', '.']
    """
    return _pattern().findall(text)


@functools.cache
def _pattern() -> re.Pattern[str]:
    def of(table: str) -> str:
        return "".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in unicode.ranges(table))

    letters, numbers, white = map(of, (unicode.LETTERS, unicode.NUMBERS, unicode.WHITE_SPACE))
    return re.compile(
        f"'(?:[stmd]|re|ve|ll)| ?[{letters}]+| ?[{numbers}]+| ?[^{white}{letters}{numbers}]+"
        f"|[{white}]+(?![^{white}])|[{white}]+"
    )
