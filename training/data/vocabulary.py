"""The tokeniser of a run: learned from its text, or read from a file."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from keras_transformer.errors import InputError
from keras_transformer.text import (
    SPECIAL_TOKENS,
    BertTokenizer,
    BytePairTokenizer,
    CharacterTokenizer,
    WordPieceTokenizer,
    WordTokenizer,
    learn_bert_vocabulary,
    learn_byte_pairs,
    learn_characters,
    learn_vocabulary,
    learn_words,
    load_tokenizer,
)
from keras_transformer.text.storage import Tokenizer
from keras_transformer.text.wordpiece import MASK_TOKEN

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
    special = (*SPECIAL_TOKENS, MASK_TOKEN) if with_mask else SPECIAL_TOKENS
    if split_digits and kind not in (WORDPIECE, BERT):
        raise InputError(f"--split-digits is for wordpiece and bert, and not for {kind}.")
    size = vocabulary_size
    show: dict[str, Any] = {"progress": progress}
    pieces: dict[str, Callable[[], Tokenizer]] = {
        WORDPIECE: lambda: WordPieceTokenizer(
            learn_vocabulary(lines, size, special_tokens=special, split_digits=split_digits, **show)
        ),
        BERT: lambda: BertTokenizer(
            learn_bert_vocabulary(lines, size, split_digits=split_digits, **show)
        ),
        BYTE_PAIRS: lambda: BytePairTokenizer(
            *learn_byte_pairs(lines, size, special_tokens=special, **show)
        ),
        CHARACTERS: lambda: CharacterTokenizer(learn_characters(lines, size, special)),
        WORDS: lambda: WordTokenizer(learn_words(lines, size, special_tokens=special, **show)),
    }
    try:
        return _of_kind(pieces, kind)()
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
    files: dict[str, Callable[[Path], Any]] = {
        WORDPIECE: WordPieceTokenizer.load,
        BERT: BertTokenizer.load,
        BYTE_PAIRS: lambda p: BytePairTokenizer.from_files(p / "vocab.json", p / "merges.txt"),
        CHARACTERS: CharacterTokenizer.load,
        WORDS: WordTokenizer.load,
    }
    read = _of_kind(files, kind)
    try:
        if (path / "config.json").is_file():
            return load_tokenizer(path)
        return read(path)
    except (OSError, ValueError) as error:
        raise InputError(f"The vocabulary can't be read: {error}") from None


def _of_kind(choices, kind):
    if kind not in choices:
        raise InputError(f"There is no tokeniser {kind!r}; choose one of {', '.join(TOKENIZERS)}.")
    return choices[kind]
