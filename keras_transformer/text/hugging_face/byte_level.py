"""Byte-level byte pairs as GPT-2 has them, of `tokenizer.json`."""

from typing import Any

from keras_transformer.text.byte_pairs import SPECIAL_NAMES, BytePairTokenizer
from keras_transformer.text.hugging_face.components import component, parts_of, vocabulary_of
from keras_transformer.text.hugging_face.fields import Fields
from keras_transformer.text.hugging_face.settings import Settings


def read_byte_level(model: Fields, fields: Fields, settings: Settings) -> BytePairTokenizer:
    """Make a tokeniser of a BPE model and its components.

    Args:
        model: The model.
        fields: The file, of which the normaliser and the pre-tokeniser are taken.
        settings: What the other files say.

    Raises:
        ValueError: If something is not supported, or files contradict each other.
    """
    settings.keep_case()
    model.expect("dropout", None, 0.0)
    model.expect("continuing_subword_prefix", None, "")
    model.expect("end_of_word_suffix", None, "")
    model.expect("byte_fallback", False, None)
    model.expect("ignore_merges", False, None)
    model.ignore("unk_token", "fuse_unk")  # every byte has a piece
    merges = [_pair(model.where, i, x) for i, x in enumerate(model.take("merges", list))]
    pieces = settings.extended(vocabulary_of(model))
    if parts := parts_of(fields, "normalizer", "normalizers"):
        raise ValueError(
            f"tokenizer.json: the normalizer {parts[0].peek('type')!r} is not supported with byte "
            "pairs."
        )
    splitter = component(fields, "pre_tokenizer", "ByteLevel", "pretokenizers")
    splitter.expect("use_regex", True)
    splitter.ignore("trim_offsets")
    prefix = splitter.take("add_prefix_space", bool, True)
    splitter.done()
    said = settings.fields.take("add_prefix_space", bool, prefix)
    if said != prefix:
        raise ValueError(
            f"tokenizer.json: the pre_tokenizer has add_prefix_space {prefix}, but "
            f"tokenizer_config.json says {said}. Correct the one that is wrong."
        )
    return make_byte_pairs(pieces, merges, settings, prefix)


def make_byte_pairs(
    pieces: list[str], merges: list[tuple[str, str]], settings: Settings, prefix: bool
) -> BytePairTokenizer:
    """Make the tokeniser of its vocabulary and settings."""
    for name in ("add_bos_token", "add_eos_token"):
        settings.fields.expect(name, False, None)
    ids = {piece: i for i, piece in enumerate(pieces)}
    usual = {role: [n for n in names if n in ids] for role, names in SPECIAL_NAMES.items()}
    roles = {role: names[0] for role, names in usual.items() if names}
    roles |= {role: name for role, name in settings.roles.items() if name in ids}
    for role, name in settings.roles.items():
        if name not in ids and role != "unknown":
            raise ValueError(f"the special token {name!r} ({role}) is not in the vocabulary.")
    # Where the unknown token is another one as well, as in GPT-2, that is what it is.
    if roles.get("unknown") in [name for role, name in roles.items() if role != "unknown"]:
        del roles["unknown"]
    return BytePairTokenizer(pieces, merges, roles, prefix, settings.found(roles, ids))


def _pair(where: str, i: int, value: Any) -> tuple[str, str]:
    parts = value.split(" ") if isinstance(value, str) else value
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(x, str) for x in parts):
        raise ValueError(f"{where}: merge {i} is {value!r}, not two pieces.")
    return parts[0], parts[1]
