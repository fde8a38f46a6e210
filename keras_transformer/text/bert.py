"""BERT's WordPiece, for published vocabularies: the ids of its reference, inside the graph."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

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
from keras_transformer.text.bert_characters import Rules, character_map
from keras_transformer.text.bert_learner import learn_bert_vocabulary
from keras_transformer.text.joining import DETOKENIZE_OPS, Joiner
from keras_transformer.text.learner import CONTINUATION
from keras_transformer.text.normalizing import normalized, normalizer_model
from keras_transformer.text.tokenizer import Tokenizer, read_pieces
from keras_transformer.text.wordpiece import split_at_white_space
from keras_transformer.typing import Ragged, Strings, Tensor

with quiet_stderr():
    import tensorflow_text as tf_text

SPECIAL_TOKENS = {
    "padding": "[PAD]",
    "unknown": "[UNK]",
    "begin": "[CLS]",
    "end": "[SEP]",
    "mask": "[MASK]",
}
MAX_CHARACTERS_PER_WORD = 100  # a longer one is unknown
_MAX_BYTES = 4  # of a character


class BertTokenizer(Tokenizer):
    """Turns text into the ids of a published BERT vocabulary and back, in the graph.

    Control characters are left out, case too if `lowercase`, and accents if `strip_accents`; words
    are what lies between white space; punctuation and Chinese characters are words of their own. A
    word is cut by greedy longest match; one that can't be spelled, has more than 100 characters or
    is not UTF-8 becomes one `[UNK]`. Words come back with spaces between, punctuation among them.

    The ids are those of Hugging Face's `BertTokenizerFast`, without the special tokens that it
    adds, but for two things:

    - Text never gives a special id. There, a literal `[SEP]` is the special token; here it is
      spelled, as `[ sep ]`. Added tokens that are not special are found.
    - Combining marks that are no accents to the reference (those newer than Unicode 8, and a few
      musical signs), several of them on one letter, stay in the order that they have. There they
      are sorted.

    Args:
        vocabulary: The pieces in the order of their ids; continuations begin with `##`.
        lowercase: Whether the vocabulary is an uncased one.
        strip_accents: Whether accents are left out; None if they are with `lowercase`.
        chinese_characters: Whether each Chinese character is a word of its own.
        special_tokens: Names of the special tokens by what they are for: `padding`, `unknown`,
            `begin`, `end`, and maybe `mask`. None for BERT's own, `[PAD]` and so on.
        added_tokens: Entries of the vocabulary that are found in a text before it is cut.

    Raises:
        ValueError: If a special token is missing, or a piece is empty, repeated, or holds NUL.

    Example:
        tokenizer = BertTokenizer.load("vocab.txt")
        ids = tokenizer.tokenize(["Two young men."])
        tokenizer.detokenize(ids)  # "two young men ."

    Reference: Devlin et al. 2019; Song et al. 2021, "Fast WordPiece Tokenization".
    """

    kind = "bert"
    file = "vocab.txt"
    custom_ops = DETOKENIZE_OPS | {
        "FastBertNormalize",
        "TFText>WhitespaceTokenizeWithOffsetsV2",
        "FastWordpieceTokenizeWithOffsets",
        "TFText>Utf8Binarize",
    }

    def __init__(
        self,
        vocabulary: Sequence[str],
        lowercase: bool = True,
        strip_accents: bool | None = None,
        chinese_characters: bool = True,
        special_tokens: Mapping[str, str] | None = None,
        added_tokens: Sequence[AddedToken] = (),
    ) -> None:
        self.vocabulary = list(vocabulary)
        self.lowercase = lowercase
        self.strip_accents = strip_accents
        self.chinese_characters = chinese_characters
        self.special_tokens = dict(SPECIAL_TOKENS if special_tokens is None else special_tokens)
        self.added_tokens = tuple(added_tokens)
        _check(self.vocabulary, self.special_tokens)
        ids = {piece: i for i, piece in enumerate(self.vocabulary)}
        special = {role: ids[name] for role, name in self.special_tokens.items()}
        self.padding_id = special["padding"]
        self.unknown_id = special["unknown"]
        self.begin_id = special["begin"]
        self.end_id = special["end"]
        self.mask_id = special.get("mask")
        known = frozenset("".join(self.vocabulary))
        strip = lowercase if strip_accents is None else strip_accents
        rules = Rules(lowercase, strip, chinese_characters)
        self._normalizer = tf.constant(_table(known, rules, True))
        normalize = None
        if any(token.normalized for token in self.added_tokens):
            # They are looked for before punctuation is split off.
            model = tf.constant(_table(known, rules, False))
            normalize = functools.partial(normalized, model=model)
        self._added = AddedTokens(self.added_tokens, ids, list(special.values()), normalize)
        if self.added_tokens:
            self.custom_ops = self.custom_ops | ADDED_OPS
        # Whether a text's pieces are those of its words, each cut on its own.
        self.cuts_words_alone = not span_words(self.added_tokens)
        # What is no piece of a word has a space in it here, which no word has.
        whole = {*special.values(), *(ids[t.content] for t in self.added_tokens)}
        whole -= {self.unknown_id}
        words = [p + " " if i in whole else p for i, p in enumerate(self.vocabulary)]
        self._white_space = tf_text.WhitespaceTokenizer()._config[:16]  # ASCII is all there is now
        self._pieces = tf_text.FastWordpieceTokenizer(
            vocab=words,
            suffix_indicator=CONTINUATION,
            unknown_token=self.special_tokens["unknown"],
            max_bytes_per_word=MAX_CHARACTERS_PER_WORD * _MAX_BYTES,
            token_out_type=tf.int32,
            no_pretokenization=True,
        )
        follows = [p.startswith(CONTINUATION) and p != CONTINUATION for p in words]
        self._joiner = Joiner(
            [
                piece.removeprefix(CONTINUATION if mark else "").encode()
                for piece, mark in zip(self.vocabulary, follows, strict=True)
            ],
            follows,
            self.unknown_id,
            (self.padding_id, self.begin_id, self.end_id, self.mask_id),
            prefix=CONTINUATION,
        )

    @classmethod
    def _learn(
        cls,
        lines: Iterable[str],
        size: int,
        *,
        with_mask: bool = True,
        lowercase: bool = True,
        **options: Any,
    ) -> Self:
        pieces = learn_bert_vocabulary(lines, size, lowercase=lowercase, **options)
        return cls(pieces, lowercase)

    def _cut(self, text: Strings) -> Ragged:
        text = normalized(text, self._normalizer)
        words, rows, starts, ends = split_at_white_space(text, self._white_space)
        pieces = self._pieces.tokenize(words)  # (words, (pieces))
        ids, splits = pieces.values, pieces.row_splits
        long = tf.where(ends - starts > MAX_CHARACTERS_PER_WORD)  # in bytes
        ids, splits = tf.cond(
            tf.shape(long)[0] > 0,
            lambda: self._without_long(words, long, ids, splits),
            lambda: (ids, splits),
        )
        return tf.RaggedTensor.from_row_splits(ids, tf.gather(splits, rows), validate=False)

    def _without_long(
        self, words: Tensor, long: Tensor, ids: Tensor, splits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Replace the pieces of words with too many characters by one `[UNK]` each."""
        # tf.text's limit is in bytes, the reference's in characters.
        bits = tf_text.utf8_binarize(
            tf.gather_nd(words, long), word_length=MAX_CHARACTERS_PER_WORD + 1, bits_per_char=21
        )
        beyond = tf.reduce_any(bits[:, MAX_CHARACTERS_PER_WORD * 21 :] > 0, axis=1)
        long = tf.gather(long, tf.where(beyond)[:, 0])  # (L, 1)
        marks = tf.scatter_nd(long, tf.ones_like(long[:, 0]), tf.shape(words, tf.int64))
        counts = splits[1:] - splits[:-1]
        # Each word's first piece counts up the words, as every word has one.
        first = tf.scatter_nd(
            tf.expand_dims(splits[:-1], 1), tf.ones_like(counts), tf.shape(ids, tf.int64)
        )
        marked = tf.gather(marks, tf.cumsum(first) - 1) > 0  # for each piece
        ids = tf.where(marked, tf.constant(self.unknown_id), ids)
        kept = tf.where(tf.logical_or(first > 0, tf.logical_not(marked)))[:, 0]
        ends = tf.cumsum(tf.where(marks > 0, tf.ones_like(counts), counts))
        return tf.gather(ids, kept), tf.concat([splits[:1], ends], 0)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of `load` besides the file."""
        more = {
            "strip_accents": self.strip_accents,
            "chinese_characters": self.chinese_characters,
            "special_tokens": self.special_tokens,
            "added_tokens": [token.to_dict() for token in self.added_tokens],
        }
        usual: dict[str, Any] = {
            "strip_accents": None,
            "chinese_characters": True,
            "special_tokens": SPECIAL_TOKENS,
            "added_tokens": [],
        }
        return {"lowercase": self.lowercase, **{k: v for k, v in more.items() if v != usual[k]}}

    @classmethod
    def load(cls, path: Path | str, lowercase: bool = True, **settings: Any) -> "BertTokenizer":
        """Read a published `vocab.txt`.

        Args:
            path: Path of the file.
            lowercase: Whether the vocabulary is an uncased one.
            **settings: Other arguments of the class; `added_tokens` as `settings` gives them.

        Raises:
            OSError: If the file can't be read.
            ValueError: If it is not a vocabulary, or does not fit the settings.
        """
        try:
            added = read_added(settings.pop("added_tokens", None))
            return cls(read_pieces(path), lowercase, added_tokens=added, **settings)
        except ValueError as error:
            raise ValueError(f"{path} is not a BERT vocabulary: {error}") from None


@functools.lru_cache(maxsize=4)
def _table(known: frozenset[str], rules: Rules, punctuation: bool) -> np.ndarray:
    return normalizer_model(*character_map(known, rules, punctuation))


def _check(vocabulary: list[str], special_tokens: dict[str, str]) -> None:
    for role in special_tokens:
        if role not in SPECIAL_TOKENS:
            raise ValueError(
                f"special_tokens has {role!r}; the roles are {', '.join(SPECIAL_TOKENS)}."
            )
    for role, name in SPECIAL_TOKENS.items():
        if role not in special_tokens and role != "mask":
            raise ValueError(f"special_tokens does not say which token is for {role}.")
        if (name := special_tokens.get(role, name)) not in vocabulary and role in special_tokens:
            raise ValueError(f"it has no {name}.")
    seen: dict[str, int] = {}
    for i, piece in enumerate(vocabulary):
        if not piece or "\0" in piece:
            raise ValueError(f"piece {i} is {piece!r}: pieces are not empty and hold no NUL.")
        if seen.setdefault(piece, i) != i:
            raise ValueError(f"pieces {seen[piece]} and {i} are both {piece!r}.")
