"""The tokeniser of a run: learned from its text, or read from a file."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keras_transformer.errors import InputError, no_such
from keras_transformer.text.byte_pairs import BytePairTokenizer
from keras_transformer.text.storage import load_tokenizer
from keras_transformer.text.tokenizer import Tokenizer

WORDPIECE, BERT, BYTE_PAIRS, CHARACTERS, WORDS = TOKENIZERS = (
    "wordpiece",
    "bert",
    "byte-pairs",
    "characters",
    "words",
)


def learn_tokenizer(
    kind: str,
    lines: Iterable[str],
    vocabulary_size: int,
    *,
    with_mask: bool = False,
    split_digits: bool = False,
    progress: bool = False,
) -> Tokenizer:
    """Learn a tokeniser from text.

    Args:
        kind: One of `TOKENIZERS`.
        lines: The text.
        vocabulary_size: Most entries of the vocabulary.
        with_mask: Whether the mask is one of the special tokens, as models of BERT's kind want it.
        split_digits: Whether digits stay single pieces; of "wordpiece" and "bert".
        progress: Whether to show progress bars.

    Raises:
        InputError: If nothing can be learned, or there is no such kind.
    """
    options = {"split_digits": True} if split_digits else {}
    if split_digits and kind not in (WORDPIECE, BERT):
        raise InputError(f"--split-digits is for wordpiece and bert, and not for {kind}.")
    try:
        return find_kind(kind).learn(
            lines, vocabulary_size, with_mask=with_mask, progress=progress, **options
        )
    except ValueError as error:
        raise InputError(f"The vocabulary can't be learned: {error}") from None


def read_tokenizer(kind: str, path: Path) -> Tokenizer:
    """Read a tokeniser from what it was saved or published in.

    Args:
        kind: One of `TOKENIZERS`.
        path: A vocabulary, one piece a line; a folder with `vocab.json` and `merges.txt` of byte
            pairs; or the folder of a run, whose tokeniser is taken whatever kind it is.

    Raises:
        InputError: If it is missing or damaged, or there is no such kind.
    """
    of_kind: Any = find_kind(kind)
    try:
        if (path / "config.json").is_file():
            return load_tokenizer(path)
        if kind == BYTE_PAIRS:
            return BytePairTokenizer.from_files(path / "vocab.json", path / "merges.txt")
        read: Tokenizer = of_kind.load(path)
        return read
    except (OSError, ValueError) as error:
        raise InputError(f"The vocabulary can't be read: {error}") from None


def find_kind(kind: str) -> type[Tokenizer]:
    """Return the class of a kind of tokeniser.

    Raises:
        InputError: If there is no such kind.
    """
    if kind not in TOKENIZERS:
        raise no_such("tokeniser", kind, TOKENIZERS)
    return Tokenizer.kinds[kind.replace("-", "_")]
