"""WordPiece as BERT has it, of `tokenizer.json`."""

from typing import Any

from keras_transformer.text.bert import SPECIAL_TOKENS, BertTokenizer
from keras_transformer.text.hugging_face.components import component, parts_of, vocabulary_of
from keras_transformer.text.hugging_face.fields import Fields
from keras_transformer.text.hugging_face.settings import Settings

_NORMALIZER = "tokenizer.json: normalizer"


def read_wordpiece(model: Fields, fields: Fields, settings: Settings) -> BertTokenizer:
    """Make a tokeniser of a WordPiece model and its components.

    Args:
        model: The model.
        fields: The file, of which the normaliser and the pre-tokeniser are taken.
        settings: What the other files say.

    Raises:
        ValueError: If something is not supported, or files contradict each other.
    """
    model.expect("continuing_subword_prefix", "##")
    model.expect("max_input_chars_per_word", 100)
    unknown = model.take("unk_token", str)
    pieces = settings.extended(vocabulary_of(model))

    first, *rest = parts_of(fields, "normalizer", "normalizers") or [Fields(_NORMALIZER, {})]
    lower_first = first.peek("type") == "Lowercase" and bool(rest)
    if lower_first:  # what sentence-transformers puts before a normaliser that keeps case
        first.take("type", str)
        first.done()
        first, *rest = rest
    if rest or first.take("type", str, None) != "BertNormalizer":
        raise ValueError(f"{_NORMALIZER} is not supported; a BertNormalizer is.")
    first.expect("clean_text", True)
    chinese = first.take("handle_chinese_chars", bool, True)
    strip = first.take("strip_accents", bool, None)
    lowercase = first.take("lowercase", bool, True)
    first.done()
    component(fields, "pre_tokenizer", "BertPreTokenizer", "pretokenizers").done()

    said = {"lowercase": lowercase, "strip_accents": strip, "chinese_characters": chinese}
    for name, value in bert_settings(settings, said).items():
        mine = said[name]
        if name == "strip_accents":  # null stands for what is done with case
            mine, value = (lowercase if x is None else x for x in (mine, value))
        if value != mine:
            raise ValueError(
                f"tokenizer.json: the normalizer has {name} {mine}, but tokenizer_config.json "
                f"says {value}. Correct the one that is wrong."
            )
    if lower_first:
        said = _lowered(said)
    return make_bert(pieces, settings, unknown, said)


def bert_settings(settings: Settings, defaults: dict[str, Any]) -> dict[str, Any]:
    """Take how BERT's tokeniser treats characters from `tokenizer_config.json`."""
    fields = settings.fields
    names = {
        "lowercase": "do_lower_case",
        "strip_accents": "strip_accents",
        "chinese_characters": "tokenize_chinese_chars",
    }
    found = {key: fields.take(name, bool, defaults[key]) for key, name in names.items()}
    fields.expect("do_basic_tokenize", True, None)
    fields.expect("clean_text", True, None)
    fields.expect("wordpieces_prefix", "##", None)
    never = fields.take("never_split", list, [])
    if more := [name for name in never if name not in settings.special]:
        raise ValueError(
            f"{fields.where}: never_split has {more[0]!r}, which is not supported; make it an "
            "added token."
        )
    return found


def _lowered(said: dict[str, Any]) -> dict[str, Any]:
    """Put text into lower case before all else: accents are still what they were."""
    strip = said["lowercase"] if said["strip_accents"] is None else said["strip_accents"]
    return {**said, "lowercase": True, "strip_accents": strip}


def make_bert(
    pieces: list[str], settings: Settings, unknown: str, said: dict[str, Any]
) -> BertTokenizer:
    """Make the tokeniser of its vocabulary and settings."""
    if settings.lowercase:
        said = _lowered(said)
    roles = {**SPECIAL_TOKENS, **settings.roles, "unknown": unknown}
    named = settings.roles.get("unknown", unknown)
    if named != unknown:
        raise ValueError(
            f"tokenizer.json: the model has unk_token {unknown!r}, but tokenizer_config.json says "
            f"{named!r}."
        )
    if roles["mask"] not in pieces and "mask" not in settings.roles:
        del roles["mask"]
    ids = {piece: i for i, piece in enumerate(pieces)}
    return BertTokenizer(
        pieces, **said, special_tokens=roles, added_tokens=settings.found(roles, ids)
    )
