"""A tokeniser as a folder.

A folder with `vocab.txt` alone is our reversible WordPiece. Any other kind has a `tokenizer.json`
beside its files, which says what kind it is and how it is set.
"""

import json
from pathlib import Path

from keras_transformer.text.bert import BertTokenizer
from keras_transformer.text.byte_pairs import BytePairTokenizer
from keras_transformer.text.characters import CharacterTokenizer
from keras_transformer.text.sentencepiece import SentencePieceTokenizer
from keras_transformer.text.wordpiece import WordPieceTokenizer
from keras_transformer.text.words import WordTokenizer

SETTINGS = "tokenizer.json"

Tokenizer = (
    WordPieceTokenizer
    | BertTokenizer
    | BytePairTokenizer
    | CharacterTokenizer
    | WordTokenizer
    | SentencePieceTokenizer
)
_KINDS = {
    kind.kind: kind
    for kind in (
        BertTokenizer,
        BytePairTokenizer,
        CharacterTokenizer,
        WordTokenizer,
        SentencePieceTokenizer,
    )
}


def save_tokenizer(tokenizer: Tokenizer, folder) -> None:
    """Write a tokeniser into a folder, which is made if it is not there.

    Args:
        tokenizer: Any of this package's.
        folder: Path of the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SETTINGS).unlink(missing_ok=True)  # of what was there before
    tokenizer.save(folder / tokenizer.file)
    if not isinstance(tokenizer, WordPieceTokenizer):
        settings = {"kind": tokenizer.kind, **tokenizer.settings}
        content = json.dumps(settings, ensure_ascii=False, indent=2) + "\n"
        (folder / SETTINGS).write_text(content, "utf-8", newline="\n")


def load_tokenizer(folder) -> Tokenizer:
    """Read a tokeniser that `save_tokenizer` wrote.

    Args:
        folder: Path of the folder.

    Returns:
        The tokeniser, of the kind that was saved.

    Raises:
        OSError: If a file can't be read.
        ValueError: If a file is damaged; the message names it.
    """
    folder = Path(folder)
    path = folder / SETTINGS
    if not path.exists():
        return WordPieceTokenizer.load(folder / WordPieceTokenizer.file)
    try:
        settings = json.loads(path.read_bytes().decode("utf-8"))
        if not isinstance(settings, dict):
            raise ValueError("it is no JSON object.")
        kind = settings.pop("kind", None)
        if not isinstance(kind, str) or kind not in _KINDS:
            raise ValueError(f"its kind is {kind!r}; the kinds are {', '.join(_KINDS)}.")
        _check(kind, settings)
    except ValueError as error:
        raise ValueError(f"{path} does not say what tokeniser it is: {error}") from None
    chosen = _KINDS[kind]
    return chosen.load(folder / chosen.file, **settings)


def _check(kind: str, settings: dict) -> None:
    known: dict[str, dict[str, type]] = {
        BertTokenizer.kind: {"lowercase": bool},
        BytePairTokenizer.kind: {"special_tokens": dict},
        SentencePieceTokenizer.kind: {"mapped": bool},
    }
    expected = known.get(kind, {})
    if settings.keys() != expected.keys():
        given, wanted = (", ".join(sorted(names)) or "none" for names in (settings, expected))
        raise ValueError(f"its settings are {given}; those of {kind} are {wanted}.")
    for name, value in settings.items():
        if not isinstance(value, expected[name]):
            raise ValueError(f"{name} is {value!r}.")
