"""Unigram models of `tokenizer.json`, made into the SentencePiece models that they come from."""

import base64
import binascii

from keras_transformer.text import unicode
from keras_transformer.text.hugging_face.components import parts_of
from keras_transformer.text.hugging_face.fields import Fields
from keras_transformer.text.hugging_face.settings import Settings
from keras_transformer.text.sentencepiece import SPECIAL_NAMES, SentencePieceTokenizer
from keras_transformer.text.sentencepiece_model import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    read_table,
    write_model,
)
from keras_transformer.text.spacing import Spacing

_LARGEST = 1e30  # of scores
_SPACE = "\u2581"  # how pieces write it
_PRE_TOKENIZER = "tokenizer.json: pre_tokenizer"
_NORMALIZER = "tokenizer.json: normalizer"
# Steps of normalisers that do what SentencePiece does with spaces: what is replaced, and by what.
_STRIP = (("\\A +| +\\z", ""),)
_COLLAPSE = ((" {2,}", " "), (" {2,}", _SPACE))
_ESCAPE = ((" ", _SPACE), ("\\A" + _SPACE, _SPACE * 2))


def read_unigram(model: Fields, fields: Fields, settings: Settings) -> SentencePieceTokenizer:
    """Make a tokeniser of a Unigram model and its components.

    Args:
        model: The model.
        fields: The file, of which the normaliser and the pre-tokeniser are taken.
        settings: What the other files say.

    Raises:
        ValueError: If something is not supported, or files contradict each other.
    """
    settings.keep_case()
    pieces = _pieces(model)
    unknown = model.take("unk_id", int)
    model.expect("byte_fallback", False, None)
    if not 0 <= unknown < len(pieces):
        raise ValueError(f"{model.where}: unk_id is {unknown}, but there are {len(pieces)} pieces.")
    names = [name for name, _ in pieces]
    if _SPACE not in names:
        raise ValueError(f"{model.where}: there is no piece {_SPACE!r}, without which words merge.")

    table, spacing = _normalizer(fields)
    words, alone, scheme = _pre_tokenizer(fields)
    spaces = _other_spaces(table) if words else ""

    vocabulary = settings.extended(names)
    ids = {name: i for i, name in enumerate(vocabulary)}
    roles = roles_of(settings, ids, names[unknown])
    added = settings.found({**roles, "unknown": names[unknown]}, ids)
    if scheme == "first" and (words or spacing.strip_left or added or "mask" in roles):
        raise ValueError(
            f"{_PRE_TOKENIZER}: prepend_scheme is 'first', which is not supported where there are "
            "added tokens or a mask, spaces in front are stripped or words are split."
        )
    if normal := [t.content for t in added if t.normalized and len(t.content.split()) > 1]:
        raise ValueError(
            f"tokenizer.json: the added token {normal[0]!r} is normalized and holds white space, "
            "which is not supported here."
        )
    if words and spacing.collapse and any(token.normalized for token in added):
        raise ValueError(
            f"{_NORMALIZER} makes signs for spaces before WhitespaceSplit, which is not supported "
            "where added tokens are normalized."
        )
    # SentencePiece's own way with spaces is the same unless texts may begin or end with one.
    usual = spacing.strip_right and spacing.collapse and not any(t.normalized for t in added)
    tidied = None if words or usual else spacing
    never = set(roles.values())
    kinds = [
        UNKNOWN
        if i == unknown
        # Where words are cut on their own, no piece that goes on into the next is ever found.
        else CONTROL
        if name in never or (alone and _SPACE in name[1:])
        else NORMAL
        for i, name in enumerate(names)
    ]
    content = write_model(
        [(name, score, kind) for (name, score), kind in zip(pieces, kinds, strict=True)],
        table,
        spaces=tidied is None,
    )
    said = settings.fields.take("add_prefix_space", bool, True)
    if not said:
        raise ValueError(
            f"{settings.fields.where}: add_prefix_space is false, which is not supported here."
        )
    settings.fields.ignore("extra_ids", "legacy")  # the file says what came of them
    settings.fields.expect("sp_model_kwargs", {}, None)
    more = None if len(vocabulary) == len(names) else vocabulary
    return SentencePieceTokenizer(content, more, roles, added, spaces, tidied)


def roles_of(settings: Settings, ids: dict[str, int], unknown: str) -> dict[str, str]:
    """Find the special tokens of a SentencePiece model: those that files name, or the usual ones.

    Raises:
        ValueError: If one that a file names is not in the vocabulary.
    """
    usual = {role: [n for n in names if n in ids] for role, names in SPECIAL_NAMES.items()}
    roles = {role: names[0] for role, names in usual.items() if names}
    for role, name in settings.roles.items():
        if role == "unknown":
            if name != unknown:
                raise ValueError(
                    f"unk_token is {name!r}, but the unknown piece of the model is {unknown!r}."
                )
        elif name not in ids:
            raise ValueError(f"the special token {name!r} ({role}) is not in the vocabulary.")
        else:
            roles[role] = name
    return roles


def _pieces(model: Fields) -> list[tuple[str, float]]:
    made = []
    for i, entry in enumerate(model.take("vocab", list)):
        good = isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)
        if not good or isinstance(entry[1], bool) or not isinstance(entry[1], (int, float)):
            raise ValueError(f"{model.where}: vocab {i} is {entry!r}, not a piece with a score.")
        if not entry[0] or not abs(entry[1]) < _LARGEST:
            raise ValueError(f"{model.where}: vocab {i} is {entry!r}, which can't be a piece.")
        made.append((entry[0], float(entry[1])))
    return made


def _normalizer(fields: Fields) -> tuple[bytes, Spacing]:
    """Return the table of characters, and what is done with spaces."""
    table, left, right, several = b"", False, False, False
    for i, part in enumerate(parts_of(fields, "normalizer", "normalizers")):
        kind = part.take("type", str)
        if kind == "Precompiled" and i == 0:
            text = part.take("precompiled_charsmap", str, "")
            try:
                table = base64.b64decode(text, validate=True)
                read_table(table)
            except (binascii.Error, ValueError) as error:
                raise ValueError(f"{_NORMALIZER}: precompiled_charsmap: {error}") from None
        elif kind == "Strip":
            left = left or part.take("strip_left", bool)
            right = right or part.take("strip_right", bool)
        elif kind == "Replace":
            pattern = part.take("pattern", dict)
            rule = (next(iter(pattern.values()), None), part.take("content", str))
            if len(pattern) != 1 or rule not in _STRIP + _COLLAPSE + _ESCAPE:
                raise ValueError(
                    f"{_NORMALIZER}: Replace of {pattern} by {rule[1]!r} is not supported."
                )
            left, right = left or rule in _STRIP, right or rule in _STRIP
            several = several or rule in _COLLAPSE
        else:
            raise ValueError(
                f"{_NORMALIZER}: the type {kind!r} is not supported here; Precompiled in front, "
                "Strip and Replace of spaces are."
            )
        part.done()
    return table, Spacing(left, right, several)


def _pre_tokenizer(fields: Fields) -> tuple[bool, bool, str]:
    """Return whether text is split at white space, whether words are cut alone, and the scheme."""
    words, alone, scheme = False, False, None
    for part in parts_of(fields, "pre_tokenizer", "pretokenizers"):
        kind = part.take("type", str)
        if kind == "WhitespaceSplit" and scheme is None:
            words = True
        elif kind == "Metaspace" and scheme is None:
            part.expect("replacement", _SPACE)
            part.ignore("str_rep")
            prefix = part.take("add_prefix_space", bool, True)
            scheme = part.take("prepend_scheme", str, "always" if prefix else "never")
            alone = words or part.take("split", bool, True)
            part.ignore("split")
        else:
            raise ValueError(
                f"{_PRE_TOKENIZER}: {kind!r} is not supported in this place; WhitespaceSplit and "
                "then Metaspace are."
            )
        part.done()
    if scheme not in ("always", "first"):
        raise ValueError(
            f"{_PRE_TOKENIZER}: prepend_scheme is {scheme!r}, which is not supported; 'always' is."
        )
    return words, alone, scheme


def _other_spaces(table: bytes) -> str:
    """Return the white space that a table leaves as it is, and the sign for a space."""
    rules = read_table(table)
    white = [
        chr(code)
        for first, last in unicode.ranges(unicode.WHITE_SPACE)
        for code in range(first, last + 1)
    ]
    return "".join(c for c in (*white, _SPACE) if c not in rules and c != " ")
