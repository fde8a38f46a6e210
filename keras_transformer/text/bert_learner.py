"""Learns a vocabulary for `BertTokenizer`: WordPiece over words that were split as BERT does it."""

import functools
import unicodedata
from collections.abc import Iterable
from typing import Any

from keras_transformer.text import unicode
from keras_transformer.text.learner import learn_vocabulary

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def learn_bert_vocabulary(
    texts: Iterable[str], vocabulary_size: int, *, lowercase: bool = True, **options: Any
) -> list[str]:
    """Learn a WordPiece vocabulary of words without accents and of single marks of punctuation.

    Args:
        texts: The lines of text to learn from, read once.
        vocabulary_size: The number of entries wanted.
        lowercase: Whether words are put into lower case and lose their accents.
        **options: What else `learn_vocabulary` takes.

    Returns:
        The special tokens of BERT and the pieces, for `BertTokenizer`.

    Raises:
        ValueError: As `learn_vocabulary`.

    Reference: Devlin et al. 2019.
    """
    words = (split_words(text, lowercase) for text in texts)
    return learn_vocabulary(words, vocabulary_size, special_tokens=SPECIAL_TOKENS, **options)


def split_words(text: str, lowercase: bool = True) -> str:
    """Put spaces around marks of punctuation and ideographs.

    Args:
        text: Any text.
        lowercase: Whether to put it into lower case and take its accents off.
    """
    spaces, left_out, alone, accents = _characters()
    if lowercase:
        text = unicodedata.normalize("NFD", text.lower())
        text = "".join(c for c in text if c not in accents)
    parts = (f" {c} " if c in alone else " " if c in spaces else c for c in text)
    return " ".join("".join(c for c in parts if c not in left_out).split())


@functools.cache
def _characters() -> tuple[set[str], ...]:
    """Return the sets of characters that are treated in a way of their own."""

    def members(*tables: str) -> set[str]:
        return {
            chr(c)
            for table in tables
            for first, last in unicode.ranges(table)
            for c in range(first, last + 1)
        }

    return (
        members(unicode.BERT_WHITE_SPACE),
        members(unicode.BERT_LEFT_OUT),
        members(unicode.BERT_PUNCTUATION, unicode.BERT_IDEOGRAPHS),
        members(unicode.BERT_ACCENTS),
    )
