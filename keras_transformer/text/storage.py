"""A tokeniser as a folder.

A folder with `vocab.txt` alone is our reversible WordPiece. Any other kind has a `tokenizer.json`
beside its files, which says what kind it is and how it is set.
"""

import json
from pathlib import Path
from typing import Any

from keras_transformer.text.bert import BertTokenizer
from keras_transformer.text.byte_pairs import BytePairTokenizer
from keras_transformer.text.characters import CharacterTokenizer
from keras_transformer.text.sentencepiece import SentencePieceTokenizer
from keras_transformer.text.tokenizer import Tokenizer
from keras_transformer.text.wordpiece import WordPieceTokenizer
from keras_transformer.text.words import WordTokenizer

SETTINGS = "tokenizer.json"
# The kinds that have one; a folder of reversible WordPiece has not.
_KINDS: dict[str, Any] = {
    kind.kind: kind
    for kind in (
        BertTokenizer,
        BytePairTokenizer,
        CharacterTokenizer,
        WordTokenizer,
        SentencePieceTokenizer,
    )
}


def save_tokenizer(tokenizer: Tokenizer, folder: Path | str) -> None:
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


def load_tokenizer(folder: Path | str) -> Tokenizer:
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
        if "model" in settings and "kind" not in settings:
            raise ValueError(
                "it is Hugging Face's; `keras-transformer import` makes a run of such a folder."
            )
        kind = settings.pop("kind", None)
        if not isinstance(kind, str) or kind not in _KINDS:
            raise ValueError(f"its kind is {kind!r}; the kinds are {', '.join(_KINDS)}.")
        _check(kind, settings)
    except ValueError as error:
        raise ValueError(f"{path} does not name its kind of tokeniser: {error}") from None
    chosen = _KINDS[kind]
    return chosen.load(folder / chosen.file, **settings)


# What each kind is set by: the types of values that have to be there, and of those that may.
_TRUTH, _ROLES, _TOKENS = (bool,), (dict,), (list,)
_REQUIRED: dict[str, dict[str, tuple[type, ...]]] = {
    BertTokenizer.kind: {"lowercase": _TRUTH},
    BytePairTokenizer.kind: {"special_tokens": _ROLES},
    SentencePieceTokenizer.kind: {"mapped": _TRUTH},
}
_OPTIONAL: dict[str, dict[str, tuple[type, ...]]] = {
    BertTokenizer.kind: {
        "strip_accents": _TRUTH,
        "chinese_characters": _TRUTH,
        "special_tokens": _ROLES,
        "added_tokens": _TOKENS,
    },
    BytePairTokenizer.kind: {"add_prefix_space": _TRUTH, "added_tokens": _TOKENS},
    SentencePieceTokenizer.kind: {
        "special_tokens": _ROLES,
        "added_tokens": _TOKENS,
        "spaces": (str,),
        "spacing": (dict,),
    },
}


def _check(kind: str, settings: dict[str, Any]) -> None:
    required, optional = _REQUIRED.get(kind, {}), _OPTIONAL.get(kind, {})
    if not required.keys() <= settings.keys() <= required.keys() | optional.keys():
        given, wanted = (", ".join(sorted(names)) or "none" for names in (settings, required))
        more = f", and maybe {', '.join(sorted(optional))}" if optional else ""
        raise ValueError(f"its settings are {given}; those of {kind} are {wanted}{more}.")
    for name, value in settings.items():
        good = isinstance(value, (required | optional)[name])
        if name == "special_tokens" and isinstance(value, dict):
            good = all(isinstance(token, str) for token in value.values())
        if not good:
            raise ValueError(f"{name} is {value!r}.")
