"""Vocabularies without a `tokenizer.json`, in the files of each kind."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keras_transformer.text.added_tokens import AddedToken
from keras_transformer.text.bert import BertTokenizer
from keras_transformer.text.byte_pair_files import read_ids, read_merges
from keras_transformer.text.byte_pairs import BytePairTokenizer
from keras_transformer.text.hugging_face.byte_level import make_byte_pairs
from keras_transformer.text.hugging_face.settings import Settings
from keras_transformer.text.hugging_face.unigram import roles_of
from keras_transformer.text.hugging_face.wordpiece import bert_settings, make_bert
from keras_transformer.text.sentencepiece import SentencePieceTokenizer
from keras_transformer.text.sentencepiece_model import UNKNOWN, read_model
from keras_transformer.text.tokenizer import Tokenizer, read_pieces

_T5_IDS = 100  # of tokens such as <extra_id_0>, where no file says how many
_LANGUAGE = re.compile(r">>[^<>\s]+<<")  # what a source begins with in models of several languages


def read_model_files(folder: Path, settings: Settings, config: Mapping[str, Any]) -> Tokenizer:
    """Read the tokeniser of a folder without `tokenizer.json`.

    Args:
        folder: The folder.
        settings: What the other files say.
        config: The content of `config.json`.

    Raises:
        OSError: If a file can't be read.
        ValueError: If there is no tokeniser, or it is damaged or not supported.
    """
    readers: dict[str, Callable[..., Any]] = {
        "vocab.txt": lambda: _wordpiece(folder / "vocab.txt", settings),
        "merges.txt": lambda: _byte_pairs(folder, settings),
        "spiece.model": lambda: _t5(folder / "spiece.model", settings, config),
        "source.spm": lambda: _marian(folder, settings),
        "sentencepiece.bpe.model": lambda: _xlm_roberta(
            folder / "sentencepiece.bpe.model", settings
        ),
    }
    name = next((name for name in readers if (folder / name).is_file()), None)
    if name is None:
        raise ValueError(
            "there is neither tokenizer.json, vocab.txt (WordPiece), merges.txt and vocab.json "
            "(byte pairs), spiece.model nor source.spm (SentencePiece)."
        )
    tokenizer = readers[name]()
    settings.fields.done()
    return tokenizer


def _wordpiece(path: Path, settings: Settings) -> BertTokenizer:
    usual = {"lowercase": True, "strip_accents": None, "chinese_characters": True}
    said = bert_settings(settings, usual)
    try:
        pieces = settings.extended(read_pieces(path))
        return make_bert(pieces, settings, settings.roles.get("unknown", "[UNK]"), said)
    except ValueError as error:
        raise ValueError(f"{path.name} is not a BERT vocabulary: {error}") from None


def _byte_pairs(folder: Path, settings: Settings) -> BytePairTokenizer:
    settings.keep_case()
    prefix = settings.fields.take("add_prefix_space", bool, False)
    try:
        pieces = settings.extended(read_ids(folder / "vocab.json"))
    except ValueError as error:
        raise ValueError(f"vocab.json is not a vocabulary: {error}") from None
    try:
        merges = read_merges(folder / "merges.txt")
    except ValueError as error:
        raise ValueError(f"merges.txt is not a list of merges: {error}") from None
    try:
        return make_byte_pairs(pieces, merges, settings, prefix)
    except ValueError as error:
        raise ValueError(f"vocab.json with merges.txt: {error}") from None


def _t5(path: Path, settings: Settings, config: Mapping[str, Any]) -> SentencePieceTokenizer:
    names, unknown = _names(path)
    count = settings.fields.take("extra_ids", int, _T5_IDS)
    extra = [f"<extra_id_{i}>" for i in reversed(range(count))]
    # They are the model's only where it has rows for them.
    if len(names) + count <= config.get("vocab_size", 0) and config.get("model_type") == "t5":
        for i, name in enumerate(extra):
            settings.add(AddedToken(name), len(names) + i, path.name)
    else:
        settings.added = {k: v for k, v in settings.added.items() if k in names or k not in extra}
    settings.fields.ignore("legacy", "add_prefix_space")  # words begin with a space in any case
    return _sentencepiece(path, settings, settings.extended(names), unknown)


def _marian(folder: Path, settings: Settings) -> SentencePieceTokenizer:
    pieces = settings.extended(read_ids(folder / "vocab.json"))
    settings.fields.ignore("source_lang", "target_lang", "return_tensors", "sp")  # names alone
    settings.fields.expect("separate_vocabs", False, None)
    for name in filter(_LANGUAGE.fullmatch, pieces):
        settings.added.setdefault(name, AddedToken(name, leading=True))
    _, unknown = _names(folder / "source.spm")
    return _sentencepiece(folder / "source.spm", settings, pieces, unknown)


def _xlm_roberta(path: Path, settings: Settings) -> SentencePieceTokenizer:
    names, unknown = _names(path)
    if names[:3] != ["<unk>", "<s>", "</s>"]:
        raise ValueError(f"{path.name} does not begin with <unk> <s> </s>, as XLM-RoBERTa's does.")
    # The ids are not the model's: four tokens stand in front, and the mask is the last.
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *names[3:], "<mask>"]
    return _sentencepiece(path, settings, settings.extended(pieces), unknown)


def _sentencepiece(
    path: Path, settings: Settings, vocabulary: list[str], unknown: str
) -> SentencePieceTokenizer:
    settings.keep_case()
    settings.fields.expect("sp_model_kwargs", {}, None)
    ids = {piece: i for i, piece in enumerate(vocabulary)}
    roles = roles_of(settings, ids, unknown)
    added = settings.found({**roles, "unknown": unknown}, ids)
    try:
        content = path.read_bytes()
        same = vocabulary == _names(path)[0]
        return SentencePieceTokenizer(content, None if same else vocabulary, roles, added)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None


def _names(path: Path) -> tuple[list[str], str]:
    try:
        pieces = read_model(path.read_bytes()).pieces
    except ValueError as error:
        raise ValueError(f"{path.name} is not a SentencePiece model: {error}") from None
    unknown = next((name for name, kind in pieces if kind == UNKNOWN), None)
    if unknown is None:
        raise ValueError(f"{path.name}: the model has no unknown piece.")
    return [name for name, _ in pieces], unknown
