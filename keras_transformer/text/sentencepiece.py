"""Published unigram models of SentencePiece, as those of T5 and Marian, inside the graph."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_transformer._quiet import quiet_stderr
from keras_transformer._tensorflow import tf
from keras_transformer.text.added_tokens import (
    ADDED_OPS,
    AddedToken,
    AddedTokens,
    read_added,
    span_words,
)
from keras_transformer.text.byte_pair_files import read_ids
from keras_transformer.text.joining import DETOKENIZE_OPS, Joiner
from keras_transformer.text.normalizing import normalized, normalizer_model
from keras_transformer.text.sentencepiece_model import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    read_model,
    read_table,
)
from keras_transformer.text.spacing import SPACING_OPS, Spacing, with_space
from keras_transformer.text.tokenizer import Tokenizer
from keras_transformer.text.unicode import CODE_POINTS
from keras_transformer.typing import Ragged, Strings

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


class SentencePieceTokenizer(Tokenizer):
    """Turns text into the ids of a SentencePiece unigram model and back, in the graph.

    Text is normalised as the model says, and cut into the pieces that are the most probable
    together. The ids are those of the `sentencepiece` package, and so is the text that comes back.
    A model that keeps tabs and newlines is the exception: here they are spaces. T5's and Marian's
    make them spaces anyway. The unknown piece, and what is no id of a piece, comes back as ` ⁇ `.

    Args:
        model: The content of the model file, such as `spiece.model` or `source.spm`.
        vocabulary: The pieces in the order of their ids, if these are not the model's. Marian has
            such a list in `vocab.json`, for both of its languages. A piece that it lacks is
            unknown.
        special_tokens: Names of the special tokens by what they are for: `padding`, `begin`, `end`,
            `mask`. None looks for the usual ones; the unknown piece is the model's.
        added_tokens: Entries of the vocabulary that are found in a text before it is cut.
        spaces: Characters that are spaces, whatever the model makes of them.
        spacing: What is done with spaces before the model sees a text, and each stretch between
            added tokens gets one in front, if it has none; None to leave all to the model.

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

    def __init__(
        self,
        model: bytes,
        vocabulary: Sequence[str] | None = None,
        special_tokens: Mapping[str, str] | None = None,
        added_tokens: Sequence[AddedToken] = (),
        spaces: str = "",
        spacing: Spacing | None = None,
    ) -> None:
        self._content = model
        self._spaces = spaces
        self._spacing = spacing
        self.added_tokens = tuple(added_tokens)
        pieces, strips, begins_words, table = read_model(model)
        names = [name for name, _ in pieces]
        # Whether a text's pieces are those of its words, each cut on its own.
        self.cuts_words_alone = (
            strips
            and begins_words
            and not span_words(added_tokens)
            and not any(_SPACE in name[1:] for name, kind in pieces if kind == NORMAL)
        )
        unknown = _unknown_piece(pieces)
        self._mapped = vocabulary is not None
        self.vocabulary = names if vocabulary is None else list(vocabulary)
        ids = _number(self.vocabulary, unknown)
        self.unknown_id = ids[unknown]
        self._named = special_tokens is not None
        self.special_tokens = _usual_names(ids) if special_tokens is None else dict(special_tokens)
        _check(self.special_tokens, ids)
        special = {role: ids.get(self.special_tokens.get(role, "")) for role in SPECIAL_NAMES}
        self.padding_id = special["padding"]
        self.begin_id = special["begin"]
        self.end_id = special["end"]
        self.mask_id = special["mask"]

        contents = [token.content for token in self.added_tokens if token.normalized]
        rules = _rules_for(contents, table) if contents else {}
        if spacing is not None:  # which has to see what becomes a space, or nothing
            rules |= _rules_of_spaces(table)
        rules |= dict.fromkeys(spaces, " ")
        self._replace = _replacing(rules) if rules else tf.identity
        # Where no token is looked for in normalised text, stretches are normalised when cut.
        self._normal = bool(contents)
        self._added = AddedTokens(
            self.added_tokens, ids, [*special.values(), self.unknown_id], self._normalize
        )
        more = {
            "FastBertNormalize" if rules else None,
            *(SPACING_OPS if spacing is not None else ()),
            *(ADDED_OPS if self.added_tokens else ()),
        }
        self.custom_ops = self.custom_ops | (more - {None})
        try:
            self._tokenizer = tf_text.FastSentencepieceTokenizer(model)
        except RuntimeError as error:
            raise ValueError(f"tf.text can't read the model: {error}") from None
        self._ids = tf.constant([ids.get(name, self.unknown_id) for name in names])
        # Where names are given, other pieces that the model does not cut text into are text.
        left_out = set(special.values())
        if not self._named:
            left_out |= {ids.get(name) for name, kind in pieces if kind == CONTROL}
        texts = [_UNKNOWN_TEXT if piece == unknown else piece for piece in self.vocabulary]
        self._joiner = Joiner(
            [text.removeprefix(_SPACE).replace(_SPACE, " ").encode() for text in texts],
            [not text.startswith(_SPACE) for text in texts],
            self.unknown_id,
            left_out,
            blank=ids.get(_SPACE) if strips or spacing is not None else None,
        )

    def _normalize(self, text: Strings) -> Strings:
        text = self._replace(text)
        return text if self._spacing is None else self._spacing.tidy(text)

    def _cut(self, text: Strings) -> Ragged:
        if not self._normal:
            text = self._normalize(text)
        pieces = self._tokenizer.tokenize(text if self._spacing is None else with_space(text))
        ids = tf.gather(self._ids, pieces.values) if self._mapped else pieces.values
        rows = tf.cast(pieces.row_splits, tf.int64)
        return tf.RaggedTensor.from_row_splits(ids, rows, validate=False)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of `load` besides the files."""
        settings: dict[str, Any] = {"mapped": self._mapped}
        if self._named:
            settings["special_tokens"] = self.special_tokens
        if self.added_tokens:
            settings["added_tokens"] = [token.to_dict() for token in self.added_tokens]
        if self._spaces:
            settings["spaces"] = self._spaces
        if self._spacing is not None:
            settings["spacing"] = self._spacing._asdict()
        return settings

    def save(self, path: Path | str) -> None:
        """Write the model as `spiece.model`, and `vocab.json` if the ids are not the model's."""
        path = Path(path)
        (path / MODEL).write_bytes(self._content)
        if self._mapped:
            ids = {piece: i for i, piece in enumerate(self.vocabulary)}
            (path / VOCABULARY).write_text(json.dumps(ids, ensure_ascii=False), "utf-8")

    @classmethod
    def load(
        cls, path: Path | str, mapped: bool = False, **settings: Any
    ) -> "SentencePieceTokenizer":
        """Read what `save` wrote; settings are those of `settings`.

        Raises:
            OSError: If a file can't be read.
            ValueError: If one is damaged.
        """
        path = Path(path)
        settings["added_tokens"] = read_added(settings.get("added_tokens"))
        if "spacing" in settings:
            settings["spacing"] = Spacing.from_dict(settings["spacing"])
        return cls.from_files(path / MODEL, path / VOCABULARY if mapped else None, **settings)

    @classmethod
    def from_files(
        cls, model: Path | str, vocabulary: Path | str | None = None, **settings: Any
    ) -> "SentencePieceTokenizer":
        """Read published files.

        Args:
            model: Path of the model, such as `spiece.model` or `source.spm`.
            vocabulary: Path of a `vocab.json`, an id for each piece, or None for the model's ids.
            **settings: Other arguments of the class.

        Raises:
            OSError: If a file can't be read.
            ValueError: If one is damaged.
        """
        content = Path(model).read_bytes()
        try:
            read_model(content)
        except ValueError as error:
            raise ValueError(f"{model} is not a SentencePiece model: {error}") from None
        pieces = None
        try:
            pieces = None if vocabulary is None else read_ids(Path(vocabulary))
            return cls(content, pieces, **settings)
        except ValueError as error:
            raise ValueError(f"{vocabulary or model}: {error}") from None


def _unknown_piece(pieces: Sequence[tuple[str, int]]) -> str:
    """Return the piece of a model that stands for what has none."""
    unknown = next((name for name, kind in pieces if kind == UNKNOWN), None)
    if unknown is None:
        raise ValueError("the model has no unknown piece.")
    return unknown


def _number(vocabulary: Sequence[str], unknown: str) -> dict[str, int]:
    """Return the ids of pieces, each of which there has to be once."""
    ids = {piece: i for i, piece in enumerate(vocabulary)}
    if len(ids) < len(vocabulary):
        again = next(p for i, p in enumerate(vocabulary) if ids[p] != i)
        raise ValueError(f"the piece {again!r} is in the vocabulary twice.")
    if unknown not in ids:
        raise ValueError(f"the vocabulary has no {unknown!r}, the unknown piece of the model.")
    return ids


def _usual_names(ids: Mapping[str, int]) -> dict[str, str]:
    """Find the special tokens by the names that they usually have."""
    found = {role: [name for name in names if name in ids] for role, names in SPECIAL_NAMES.items()}
    return {role: names[0] for role, names in found.items() if names}


def _check(special_tokens: Mapping[str, str], ids: Mapping[str, int]) -> None:
    for role, name in special_tokens.items():
        if role not in SPECIAL_NAMES:
            raise ValueError(
                f"special_tokens has {role!r}; the roles are {', '.join(SPECIAL_NAMES)}."
            )
        if name not in ids:
            raise ValueError(f"the special token {name!r} is not in the vocabulary.")


def _rules_for(contents: Sequence[str], table: bytes) -> dict[str, str]:
    """Choose the rules of a table that may make one of some strings out of a text.

    These are the ones for single characters that become characters of the strings, or nothing.
    """
    rules = {c: to for c, to in read_table(table).items() if len(c) == 1}
    wanted = {c for content in contents for c in "".join(rules.get(x, x) for x in content)}
    return {c: to for c, to in rules.items() if wanted.issuperset(to)}


def _rules_of_spaces(table: bytes) -> dict[str, str]:
    """Choose the rules for single characters that become a space, or nothing."""
    rules = read_table(table)
    return {c: to for c, to in rules.items() if len(c) == 1 and (not to or " " in to)}


def _replacing(rules: Mapping[str, str]) -> Callable[..., Any]:
    """Make a function that replaces characters of strings `(B,)` in the graph."""
    choice = np.zeros(CODE_POINTS, np.int32)
    strings = [b"", *(to.encode() for to in rules.values())]
    choice[[ord(c) for c in rules]] = range(1, len(strings))
    model = tf.constant(normalizer_model(strings, choice))
    return functools.partial(normalized, model=model)
