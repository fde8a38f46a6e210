"""`tokenizer.json`: all of a tokeniser in one file, taken apart component by component."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_transformer.text.bert import BertTokenizer
from keras_transformer.text.byte_pair_files import read_ids, read_merges
from keras_transformer.text.byte_pairs import BytePairTokenizer
from keras_transformer.text.hugging_face.byte_level import read_byte_level
from keras_transformer.text.hugging_face.fields import Fields
from keras_transformer.text.hugging_face.framing import check_framing
from keras_transformer.text.hugging_face.settings import Settings, read_token
from keras_transformer.text.hugging_face.unigram import read_unigram
from keras_transformer.text.hugging_face.wordpiece import read_wordpiece
from keras_transformer.text.sentencepiece import SentencePieceTokenizer
from keras_transformer.text.sentencepiece_model import read_model
from keras_transformer.text.tokenizer import Tokenizer, read_pieces

FILE = "tokenizer.json"
READERS = {"WordPiece": read_wordpiece, "BPE": read_byte_level, "Unigram": read_unigram}
# Components that turn ids into text, by kind; they change no ids.
DECODERS = {
    "WordPiece": ("WordPiece",),
    "BPE": ("ByteLevel",),
    "Unigram": ("Metaspace", "Replace", "Fuse", "Strip", "Sequence"),
}


def read_tokenizer_json(folder: Path, settings: Settings, config: Mapping[str, Any]) -> Tokenizer:
    """Read `tokenizer.json`, and make sure that what lies beside it says the same.

    Args:
        folder: Folder with the file.
        settings: What the other files say.
        config: The content of `config.json`.

    Returns:
        A tokeniser.

    Raises:
        OSError: If a file can't be read.
        ValueError: If it is damaged, something in it is not supported, or a file contradicts it.
    """
    fields = Fields.of_file(folder / FILE)
    if "kind" in fields and "model" not in fields:
        raise ValueError(
            f"{FILE} is that of a run of this package, not of Hugging Face; a run needs no import."
        )
    fields.expect("version", "1.0")
    fields.ignore("truncation", "padding")  # lengths are the model's
    _take_added(fields, settings)
    model = Fields(f"{FILE}: model", fields.take("model", dict))
    kind = model.take("type", str, _guess(model))
    if kind not in READERS:
        raise ValueError(
            f"{FILE}: the model is of the type {kind!r}, which is not supported; supported are "
            f"{', '.join(READERS)}."
        )
    _check_decoder(fields.take("decoder", dict, None), kind)
    framing = fields.take("post_processor", dict, None)
    tokenizer = READERS[kind](model, fields, settings)
    model.done()
    fields.done()
    check_framing(framing, tokenizer, config)
    settings.fields.done()
    _compare(folder, tokenizer)
    return tokenizer


def _guess(model: Fields) -> str | None:
    """Infer the type of a model that has none: old files do not name it."""
    if "merges" in model:
        return "BPE"
    if "unk_id" in model:
        return "Unigram"
    return "WordPiece" if "max_input_chars_per_word" in model else None


def _take_added(fields: Fields, settings: Settings) -> None:
    for i, entry in enumerate(fields.take("added_tokens", list, [])):
        where = f"{FILE}: added_tokens: {i}"
        token = read_token(where, entry)
        number = entry.get("id")
        if type(number) is not int or number < 0:
            raise ValueError(f"{where}: id is {number!r}, but should be a number.")
        settings.add(token, number, where)


def _check_decoder(decoder: Any, kind: str) -> None:
    if decoder is None:
        return
    name = decoder.get("type")
    if name not in DECODERS[kind]:
        raise ValueError(
            f"{FILE}: the decoder {name!r} is not supported with {kind}; only "
            f"{' or '.join(DECODERS[kind])} is."
        )
    for part in decoder.get("decoders", []):
        _check_decoder(part, kind)


def _compare(folder: Path, tokenizer: Tokenizer) -> None:
    """Make sure that files with the vocabulary say what `tokenizer.json` says.

    Raises:
        ValueError: If one says something else.
    """

    def differ(file: str, what: str) -> None:
        raise ValueError(
            f"{file} and {FILE} do not agree: {what}. Remove the one that is not the checkpoint's."
        )

    vocabulary = tokenizer.vocabulary
    if isinstance(tokenizer, BertTokenizer) and (folder / "vocab.txt").is_file():
        _compare_pieces("vocab.txt", read_pieces(folder / "vocab.txt"), vocabulary, differ)
    if isinstance(tokenizer, BytePairTokenizer):
        if (folder / "vocab.json").is_file():
            _compare_pieces("vocab.json", read_ids(folder / "vocab.json"), vocabulary, differ)
        if (folder / "merges.txt").is_file():
            merges = read_merges(folder / "merges.txt")
            if merges != tokenizer.merges:
                differ("merges.txt", "their merges are not the same")
    if isinstance(tokenizer, SentencePieceTokenizer):
        for name in ("spiece.model", "sentencepiece.bpe.model"):
            if (folder / name).is_file():
                pieces = {piece for piece, _ in read_model((folder / name).read_bytes()).pieces}
                if missing := sorted(pieces - set(vocabulary)):
                    differ(name, f"only the first has the piece {missing[0]!r}")


def _compare_pieces(
    file: str, pieces: Sequence[str], vocabulary: Sequence[str], differ: Callable[..., Any]
) -> None:
    for i, piece in enumerate(pieces):
        there = vocabulary[i] if i < len(vocabulary) else None
        if piece != there:
            differ(file, f"the piece {i} is {piece!r} in the first and {there!r} in the second")
