"""Published unigram models of SentencePiece, as those of T5 and Marian, inside the graph."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_transformer._quiet import quiet_stderr
from keras_transformer.text.batches import takes_ids, takes_texts
from keras_transformer.text.byte_pair_files import read_ids
from keras_transformer.text.joining import DETOKENIZE_OPS, Joiner

with quiet_stderr():
    import tensorflow_text as tf_text

# The names that a special token goes by, in the order in which they are looked for.
SPECIAL_NAMES = {
    "padding": ("<pad>", "[PAD]"),
    "begin": ("<s>", "[CLS]"),
    "end": ("</s>", "[SEP]"),
    "mask": ("<mask>", "[MASK]"),
}
MODEL, VOCABULARY = "spiece.model", "vocab.json"
_SPACE = "\u2581"  # how pieces write it
_UNKNOWN_TEXT = " \u2047 "  # what SentencePiece writes for an unknown piece
_UNIGRAM = 1
# Kinds of pieces.
_UNKNOWN, _CONTROL, _BYTE = 2, 3, 6


class SentencePieceTokenizer:
    """Turns text into the ids of a SentencePiece unigram model and back, in the graph.

    Text is normalised as the model says, and cut into the pieces that are the most probable
    together. The ids are those of the `sentencepiece` package, and so is the text that comes back.
    A model that keeps tabs and newlines is the exception: here they are spaces. T5's and Marian's
    make them spaces anyway.

    Args:
        model: The content of the model file, such as `spiece.model` or `source.spm`.
        vocabulary: The pieces in the order of their ids, if these are not the model's. Marian has
            such a list in `vocab.json`, for both of its languages. A piece that it lacks is
            unknown.

    Raises:
        ValueError: If the model is damaged or not a unigram model, uses bytes as pieces, or
            the vocabulary repeats a piece or lacks the unknown one.

    Example:
        tokenizer = SentencePieceTokenizer.from_files("spiece.model")
        tokenizer.detokenize(tokenizer.tokenize(["Two young men."]))

    Reference: Kudo 2018, "Subword Regularization"; Kudo & Richardson 2018, "SentencePiece".
    """

    kind = "sentencepiece"
    file = ""  # a folder
    custom_ops = DETOKENIZE_OPS | {"TFText>FastSentencepieceTokenize"}

    def __init__(self, model: bytes, vocabulary: Sequence[str] | None = None):
        self._content = model
        pieces, strips, begins_words = _parse(model)
        names = [name for name, _ in pieces]
        # Whether a text's pieces are those of its words, each cut on its own.
        self.cuts_words_alone = (
            strips and begins_words and not any(_SPACE in name[1:] for name in names)
        )
        unknown = next((name for name, kind in pieces if kind == _UNKNOWN), None)
        if unknown is None:
            raise ValueError("the model has no unknown piece.")
        self._mapped = vocabulary is not None
        self.vocabulary = names if vocabulary is None else list(vocabulary)
        ids = {piece: i for i, piece in enumerate(self.vocabulary)}
        if len(ids) < len(self.vocabulary):
            again = next(p for i, p in enumerate(self.vocabulary) if ids[p] != i)
            raise ValueError(f"the piece {again!r} stands in the vocabulary twice.")
        if unknown not in ids:
            raise ValueError(f"the vocabulary has no {unknown!r}, the unknown piece of the model.")
        self.unknown_id = ids[unknown]
        special = {
            role: next((ids[name] for name in found if name in ids), None)
            for role, found in SPECIAL_NAMES.items()
        }
        self.padding_id = special["padding"]
        self.begin_id = special["begin"]
        self.end_id = special["end"]
        self.mask_id = special["mask"]

        self._tokenizer = tf_text.FastSentencepieceTokenizer(model)
        self._ids = tf.constant([ids.get(name, self.unknown_id) for name in names])
        control = {ids[name] for name, kind in pieces if kind == _CONTROL and name in ids}
        texts = [_UNKNOWN_TEXT if piece == unknown else piece for piece in self.vocabulary]
        self._joiner = Joiner(
            [text.removeprefix(_SPACE).replace(_SPACE, " ").encode() for text in texts],
            [not text.startswith(_SPACE) for text in texts],
            self.unknown_id,
            {*control, *special.values()},
            blank=ids.get(_SPACE) if strips else None,
        )

    def __len__(self):
        """Return the number of pieces V."""
        return len(self.vocabulary)

    @takes_texts
    def tokenize(self, text):
        """Cut text into pieces.

        Args:
            text: String tensor `(B,)`, UTF-8, or one text.

        Returns:
            Ragged int32 tensor `(B, (S))` without special tokens; empty rows for empty text.
            One text gives one row, an int32 vector `(S,)`.
        """
        pieces = self._tokenizer.tokenize(text)
        ids = tf.gather(self._ids, pieces.values) if self._mapped else pieces.values
        rows = tf.cast(pieces.row_splits, tf.int64)
        return tf.RaggedTensor.from_row_splits(ids, rows, validate=False)

    @takes_ids
    def detokenize(self, ids):
        """Join pieces to text.

        Args:
            ids: Ragged or dense integer tensor `(B, T)`. Special tokens other than the unknown one
                are left out; that, and what is no id of a piece, is written as ` ⁇ `.

        Returns:
            String tensor `(B,)`.
        """
        return self._joiner.join(ids)

    @property
    def settings(self) -> dict:
        """What `load` needs to know besides the files."""
        return {"mapped": self._mapped}

    def save(self, folder) -> None:
        """Write the model as `spiece.model`, and `vocab.json` if the ids are not the model's."""
        folder = Path(folder)
        (folder / MODEL).write_bytes(self._content)
        if self._mapped:
            ids = {piece: i for i, piece in enumerate(self.vocabulary)}
            (folder / VOCABULARY).write_text(json.dumps(ids, ensure_ascii=False), "utf-8")

    @classmethod
    def load(cls, folder, mapped: bool = False) -> "SentencePieceTokenizer":
        """Read what `save` wrote.

        Raises:
            OSError: If a file can't be read.
            ValueError: If one is damaged.
        """
        folder = Path(folder)
        return cls.from_files(folder / MODEL, folder / VOCABULARY if mapped else None)

    @classmethod
    def from_files(cls, model, vocabulary=None) -> "SentencePieceTokenizer":
        """Read published files.

        Args:
            model: Path of the model, such as `spiece.model` or `source.spm`.
            vocabulary: Path of a `vocab.json`, an id for each piece, or None for the model's ids.

        Raises:
            OSError: If a file can't be read.
            ValueError: If one is damaged.
        """
        content = Path(model).read_bytes()
        try:
            _parse(content)
        except ValueError as error:
            raise ValueError(f"{model} is no SentencePiece model: {error}") from None
        pieces = None
        try:
            pieces = None if vocabulary is None else read_ids(Path(vocabulary))
            return cls(content, pieces)
        except ValueError as error:
            raise ValueError(f"{vocabulary or model}: {error}") from None


def _parse(model: bytes) -> tuple[list[tuple[str, int]], bool, bool]:
    """Return a model's pieces with their kinds, and what it does with spaces.

    That is whether it leaves out those that are too many, and whether it puts one before a text.

    A model is a protocol buffer: field 1 is a piece (1 its name, 3 its kind), field 2 how it was
    trained (3 the algorithm), field 3 how text is normalised (3 whether a space is put before it,
    4 whether extra spaces go).
    """
    pieces, algorithm, strips, begins_words = [], _UNIGRAM, True, True
    try:
        for field, content in _fields(model):
            if field == 1:
                parts = dict(_fields(content))
                pieces.append((parts[1].decode("utf-8"), parts.get(3, 1)))
            elif field == 2:
                algorithm = dict(_fields(content)).get(3, _UNIGRAM)
            elif field == 3:
                settings = dict(_fields(content))
                begins_words, strips = (bool(settings.get(i, True)) for i in (3, 4))
    except (IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError("it is damaged.") from error
    if not pieces:
        raise ValueError("it has no pieces.")
    if algorithm != _UNIGRAM:
        raise ValueError("it is not a unigram model.")
    if any(kind == _BYTE for _, kind in pieces):
        raise ValueError("it spells what is unknown in bytes, which is not supported.")
    return pieces, strips, begins_words


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the fields of a protocol buffer by number."""
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(data):
        key = number()
        if key & 7 == 0:
            yield key >> 3, number()
            continue
        size = {1: 8, 5: 4}.get(key & 7) or number()
        if key & 7 in (3, 4, 6, 7) or place + size > len(data):
            raise IndexError
        yield key >> 3, data[place : place + size]
        place += size
