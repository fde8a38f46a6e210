"""BERT's WordPiece, for published vocabularies: the ids of its reference, inside the graph."""

import functools
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_transformer._quiet import quiet_stderr
from keras_transformer.text import unicode
from keras_transformer.text.batches import takes_ids, takes_texts
from keras_transformer.text.joining import DETOKENIZE_OPS, Joiner
from keras_transformer.text.learner import CONTINUATION
from keras_transformer.text.normalizing import normalizer_model
from keras_transformer.text.wordpiece import read_pieces, split_at_white_space

with quiet_stderr():
    import tensorflow_text as tf_text
    from tensorflow_text.python.ops.fast_bert_normalizer import gen_fast_bert_normalizer

PADDING, UNKNOWN, BEGIN, END, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
MAX_CHARACTERS_PER_WORD = 100  # a longer one is unknown
_MAX_BYTES = 4  # of a character
# Where characters may have case, accents or parts, ideographs aside.
_CHANGING = (
    *range(0x3400),
    *range(0xA000, 0xD800),
    *range(0xFB00, 0x20000),
    *range(0xE0100, 0xE01F0),
)
# Characters that have lower case in a later Unicode than Python 3.11's: the first, how many, how
# far apart, and the lower case of the first.
_LATER_LOWER_CASE = (
    *((0x1C89, 1, 1, 0x1C8A), (0xA7CB, 1, 1, 0x264), (0xA7CC, 2, 2, 0xA7CD)),
    *((0xA7D2, 2, 2, 0xA7D3), (0xA7DA, 1, 1, 0xA7DB), (0xA7DC, 1, 1, 0x19B)),
    *((0x10D50, 22, 1, 0x10D70), (0x16EA0, 25, 1, 0x16EBB)),
)
_LATER_COMPOSED = 0x11938  # the reference does not know its parts


class BertTokenizer:
    """Turns text into the ids of a published BERT vocabulary and back, in the graph.

    Control characters are left out, accents and case too if `lowercase`; words are what lies
    between white space; punctuation and Chinese characters are words of their own. A word is cut
    by greedy longest match; one that can't be spelled, has more than 100 characters or is not
    UTF-8 becomes one `[UNK]`.

    The ids are those of Hugging Face's `BertTokenizerFast`, without the special tokens that it
    adds, but for two things:

    - Text never gives a special id. There, a literal `[SEP]` is the special token; here it is
      spelled, as `[ sep ]`.
    - Combining marks that are no accents to the reference (those newer than Unicode 8, and a few
      musical signs), several of them on one letter, stay in the order that they have. There they
      are sorted.

    Args:
        vocabulary: The pieces in the order of their ids; continuations begin with `##`.
        lowercase: Whether the vocabulary is an uncased one.

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

    def __init__(self, vocabulary: Sequence[str], lowercase: bool = True):
        self.vocabulary = list(vocabulary)
        self.lowercase = lowercase
        _check(self.vocabulary)
        ids = {piece: i for i, piece in enumerate(self.vocabulary)}
        self.padding_id = ids[PADDING]
        self.unknown_id = ids[UNKNOWN]
        self.begin_id = ids[BEGIN]
        self.end_id = ids[END]
        self.mask_id = ids[MASK]
        known = frozenset("".join(self.vocabulary))
        self._normalizer = tf.constant(normalizer_model(*_character_map(known, lowercase)))
        self._white_space = tf_text.WhitespaceTokenizer()._config[:16]  # ASCII is all there is now
        self._pieces = tf_text.FastWordpieceTokenizer(
            vocab=self.vocabulary,
            suffix_indicator=CONTINUATION,
            unknown_token=UNKNOWN,
            max_bytes_per_word=MAX_CHARACTERS_PER_WORD * _MAX_BYTES,
            token_out_type=tf.int32,
            no_pretokenization=True,
        )
        follows = [p.startswith(CONTINUATION) and p != CONTINUATION for p in self.vocabulary]
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
        text, _, _ = gen_fast_bert_normalizer.fast_bert_normalize(
            input_values=text, fast_bert_normalizer_model=self._normalizer, get_offsets=False
        )
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

    def _without_long(self, words, long, ids, splits):
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

    @takes_ids
    def detokenize(self, ids):
        """Join pieces to text: with spaces between words, punctuation among them.

        Args:
            ids: Ragged or dense integer tensor `(B, T)`. Special tokens other than `[UNK]` are
                left out. What is no id of a piece is written as an unknown one.

        Returns:
            String tensor `(B,)`.
        """
        return self._joiner.join(ids)

    @property
    def settings(self) -> dict:
        """What `load` needs to know besides the file."""
        return {"lowercase": self.lowercase}

    def save(self, path) -> None:
        """Write the vocabulary, one piece a line, in the order of ids. The case is not in it."""
        Path(path).write_text("".join(f"{p}\n" for p in self.vocabulary), "utf-8", newline="\n")

    @classmethod
    def load(cls, path, lowercase: bool = True) -> "BertTokenizer":
        """Read a published `vocab.txt`.

        Raises:
            OSError: If the file can't be read.
            ValueError: If it is not a vocabulary.
        """
        try:
            return cls(read_pieces(path), lowercase)
        except ValueError as error:
            raise ValueError(f"{path} is not a BERT vocabulary: {error}") from None


def _character_map(known: frozenset[str], lowercase: bool) -> tuple[list[bytes], np.ndarray]:
    """Say what each character becomes: a part of a word, a word of its own, a space, or nothing.

    What holds a character that no piece has becomes one mark, as its word is unknown anyway. This
    keeps tens of thousands of ideographs and syllables out of the table.
    """
    mark = next(c for c in map(chr, range(1, 128)) if c not in known and not c.isspace())
    strings = [b""]
    index: dict[str, int] = {}
    choice = np.zeros(unicode.CODE_POINTS, np.int32)

    def put(where, string: str) -> None:
        if string not in index:
            index[string] = len(strings)
            strings.append(string.encode())
        choice[where] = index[string]

    ideographs = unicode.members(unicode.BERT_IDEOGRAPHS)
    put(ideographs, f" {mark} ")
    for code in map(int, np.flatnonzero(ideographs)):
        parts = unicodedata.normalize("NFD", chr(code)) if lowercase else chr(code)
        if known.issuperset(parts):
            put(code, f" {parts} ")
    for code, parts in _changed(lowercase):
        words = "".join(_word_of_its_own(c) for c in parts)
        unknown = not known.issuperset(words.replace(" ", ""))
        put(code, mark if unknown and " " not in words else words)
    put(unicode.members(unicode.BERT_WHITE_SPACE), " ")
    put(unicode.members(unicode.BERT_LEFT_OUT), "")
    return strings, choice


@functools.cache
def _sets():
    tables = unicode.BERT_WHITE_SPACE, unicode.BERT_PUNCTUATION, unicode.BERT_ACCENTS
    return [
        {chr(c) for first, last in unicode.ranges(table) for c in range(first, last + 1)}
        for table in tables
    ]


def _word_of_its_own(character: str) -> str:
    white_space, punctuation, _ = _sets()
    if character in white_space:
        return " "
    return f" {character} " if character in punctuation else character


def _changed(lowercase: bool) -> Iterator[tuple[int, str]]:
    """Yield the characters that may not stay as they are, and what they are without accents."""
    _, punctuation, accents = _sets()
    if not lowercase:
        yield from ((ord(c), c) for c in punctuation)
        return
    later = {
        first + i * step: chr(lower + i * step)
        for first, count, step, lower in _LATER_LOWER_CASE
        for i in range(count)
    }
    for code in _CHANGING:
        character = chr(code)
        parts = character
        if code != _LATER_COMPOSED:
            parts = unicodedata.normalize("NFD", character)
        parts = "".join(c.lower() for c in parts if c not in accents)
        parts = later.get(code, parts)
        if parts != character or character in punctuation:
            yield code, parts


def _check(vocabulary: list[str]) -> None:
    for name in (PADDING, UNKNOWN, BEGIN, END, MASK):
        if name not in vocabulary:
            raise ValueError(f"it has no {name}.")
    seen: dict[str, int] = {}
    for i, piece in enumerate(vocabulary):
        if not piece or "\0" in piece:
            raise ValueError(f"piece {i} is {piece!r}: pieces are not empty and hold no NUL.")
        if seen.setdefault(piece, i) != i:
            raise ValueError(f"pieces {seen[piece]} and {i} are both {piece!r}.")
