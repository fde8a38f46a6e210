"""Reversible WordPiece: text -> ids -> the same text, inside the graph, on every runtime.

Text is split at ASCII white space only, so that `Hello, bushes.` becomes `Hello ##, bush ##es ##.`
and comes back with its case and punctuation; runs of white space come back as one space. All of
it is done by ops that exist in TensorFlow Serving and in LiteRT.

Two rules keep text from being mistaken for something else:

- Text never gives a special id, except that of `[UNK]`: a word with an unknown character has it,
  and so has a literal `[UNK]` at the beginning of a word. A literal `[EOS]` is spelled with
  ordinary pieces.
- A literal `##es` at the beginning of a word is not a continuation.

Both hold because inside the graph a continuation is marked by a leading space and a special token
by a trailing one, and no word can contain a space.
"""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from keras_transformer._quiet import quiet_stderr
from keras_transformer._tensorflow import tf
from keras_transformer.text.batches import as_batch, takes_ids, takes_texts
from keras_transformer.text.learner import CONTINUATION, SPECIAL_TOKENS, learn_vocabulary
from keras_transformer.text.tokenizer import Tokenizer, read_pieces
from keras_transformer.typing import Ids, Ragged, Strings

with quiet_stderr():
    import tensorflow_text as tf_text
    from tensorflow_text.python.ops.whitespace_tokenizer import gen_whitespace_tokenizer_v2


def split_at_white_space(text: Strings, white_space: Any) -> Any:
    """Return the words of texts `(B,)`, how many are before each text, and their places."""
    return gen_whitespace_tokenizer_v2.tf_text_whitespace_tokenize_with_offsets_v2(
        as_batch(text), white_space
    )


PADDING_TOKEN, UNKNOWN_TOKEN, BEGIN_TOKEN, END_TOKEN = SPECIAL_TOKENS
MASK_TOKEN = "[MASK]"  # special only where it directly follows the others
# LinMaxMatch is linear in the word's length, so there is no reason to give up on long words: a
# Japanese sentence is a single one.
MAX_BYTES_PER_WORD = 1_000_000


class WordPieceTokenizer(Tokenizer):
    """Turns text into WordPiece ids and back, in the graph.

    A word is cut by greedy longest match: the longest piece of the vocabulary that begins it, then
    the longest continuation, and so on. A word that can't be spelled becomes one `[UNK]`.

    Args:
        vocabulary: The pieces in the order of their ids. It begins with the special tokens
            `[PAD] [UNK] [BOS] [EOS]`, which `[MASK]` may follow; continuations begin with `##`.

    Raises:
        ValueError: If the vocabulary does not begin with the special tokens, or holds a piece
            that is empty, repeated, or contains white space.

    Example:
        tokenizer = WordPieceTokenizer.learn(lines, 8000)
        ids = tokenizer(["Two young men."])
        tokenizer.detokenize(ids)

    Reference: Schuster & Nakajima 2012; Song et al. 2021, "Fast WordPiece Tokenization".
    """

    kind = "wordpiece"
    file = "vocab.txt"
    custom_ops = frozenset(
        {
            "FastWordpieceTokenizeWithOffsets",
            "TFText>FastWordpieceDetokenize",
            "TFText>WhitespaceTokenizeWithOffsetsV2",
            "RaggedTensorToTensor",
        }
    )

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = list(vocabulary)
        check_pieces(self.vocabulary)
        check_words(self.vocabulary)
        self.padding_id, self.unknown_id, self.begin_id, self.end_id = range(len(SPECIAL_TOKENS))
        self.mask_id = find_mask(self.vocabulary)
        # A bitmap over code points. Its first 128 bits keep ASCII white space only: at a wider
        # white space, tf.text leaves part of the character behind in the word before it.
        self._white_space = tf_text.WhitespaceTokenizer()._config[:16]
        self._pieces = _fast_tokenizer(self.vocabulary)

    @classmethod
    def _learn(
        cls, lines: Iterable[str], size: int, *, with_mask: bool = False, **options: Any
    ) -> Self:
        return cls(
            learn_vocabulary(lines, size, special_tokens=special_tokens(with_mask), **options)
        )

    @takes_texts
    def tokenize(self, text: Strings, model: Any = None) -> Ragged:
        """Cut text into pieces.

        Args:
            text: String tensor `(B,)`, UTF-8. Bytes that are not UTF-8 make their word unknown.
            model: What `model_without` returned, to cut with a part of the pieces.

        Returns:
            Ragged int32 tensor `(B, (S))`; empty rows for empty text.
            One text gives one row, an int32 vector `(S,)`.
        """
        pieces = self._pieces
        if model is not None:
            pieces = tf_text.FastWordpieceTokenizer(model_buffer=model, token_out_type=tf.int32)
        # The op alone: tf.text's own method, and joining words by `merge_dims`, check what it
        # returned in so many branches that they were most of the functions of a SavedModel.
        words, ends, _, _ = split_at_white_space(text, self._white_space)
        ids = pieces.tokenize(words)  # (words, (pieces))
        ends = tf.gather(ids.row_splits, ends)
        return tf.RaggedTensor.from_row_splits(ids.values, ends, validate=False)

    def model_without(self, pieces: Collection[str]) -> Any:
        """Build a vocabulary that lacks some pieces, for `tokenize`; the others keep their ids.

        Returns:
            Uint8 tensor, as tf.text's op reads it.
        """
        return _fast_tokenizer(self.vocabulary, pieces)._model

    @takes_ids
    def detokenize(self, ids: Ids) -> Strings:
        """Join pieces to text.

        Args:
            ids: Ragged or dense integer tensor `(B, T)`. In dense ids, and in ragged ones,
                padding, begin, end and mask tokens are left out. What is no id of a piece is
                written as an unknown one.

        Returns:
            String tensor `(B,)`.
        """
        if isinstance(ids, tf.RaggedTensor):
            ids = ids.to_tensor(shape=[None, None])
        special = [self.padding_id, self.begin_id, self.end_id]
        if self.mask_id is not None:
            special.append(self.mask_id)
        real = tf.reduce_all([tf.not_equal(ids, i) for i in special], axis=0)  # (B, T)
        pieces = tf.gather(tf.reshape(ids, [-1]), tf.where(tf.reshape(real, [-1]))[:, 0])
        counts = tf.reduce_sum(tf.cast(real, tf.int64), axis=1)
        # tf.text would read beyond its table.
        known = tf.logical_and(pieces >= 0, pieces < len(self.vocabulary))
        unknown = tf.constant(self.unknown_id, pieces.dtype)
        pieces = tf.where(known, pieces, unknown)
        rows = tf.RaggedTensor.from_row_lengths(pieces, counts, validate=False)
        return self._pieces.detokenize(rows)

    @classmethod
    def load(cls, path: Path | str) -> "WordPieceTokenizer":
        """Read a vocabulary that `save` wrote.

        Raises:
            OSError: If the file can't be read.
            ValueError: If it is not a vocabulary.
        """
        try:
            return cls(read_pieces(path))
        except ValueError as error:
            raise ValueError(f"{path} is not a WordPiece vocabulary: {error}") from None


def special_tokens(with_mask: bool) -> tuple[str, ...]:
    """Return the special tokens of a vocabulary that is learned."""
    return (*SPECIAL_TOKENS, MASK_TOKEN) if with_mask else SPECIAL_TOKENS


def find_mask(vocabulary: list[str]) -> int | None:
    """Return the id of the mask in a learned vocabulary, or None if it has no mask."""
    place = len(SPECIAL_TOKENS)
    return place if vocabulary[place : place + 1] == [MASK_TOKEN] else None


def _fast_tokenizer(vocabulary: list[str], unused: Collection[str] = ()) -> Any:
    if find_mask(vocabulary):
        unused = {*unused, MASK_TOKEN}
    return tf_text.FastWordpieceTokenizer(
        vocab=[_mark(piece, unused) for piece in vocabulary],
        suffix_indicator=" ",
        unknown_token=UNKNOWN_TOKEN,
        max_bytes_per_word=MAX_BYTES_PER_WORD,
        token_out_type=tf.int32,
        no_pretokenization=True,
        support_detokenization=True,
    )


def _mark(piece: str, unused: Collection[str]) -> str:
    """Write a piece as it stands in the graph, where no text can imitate the marks."""
    if piece in unused or (piece in SPECIAL_TOKENS and piece != UNKNOWN_TOKEN):
        return piece + " "
    return " " + piece.removeprefix(CONTINUATION) if _is_continuation(piece) else piece


def _is_continuation(piece: str) -> bool:
    return piece.startswith(CONTINUATION) and piece != CONTINUATION


def check_pieces(vocabulary: list[str]) -> None:
    """Make sure that a learned vocabulary begins with the special tokens and repeats nothing.

    Raises:
        ValueError: If it does not.
    """
    head = tuple(vocabulary[: len(SPECIAL_TOKENS)])
    if head != SPECIAL_TOKENS:
        raise ValueError(
            f"a vocabulary begins with {' '.join(SPECIAL_TOKENS)}, this one with {' '.join(head)}."
        )
    if len(set(vocabulary)) < len(vocabulary):
        places: dict[str, int] = {}
        again = next(p for i, p in enumerate(vocabulary) if places.setdefault(p, i) != i)
        raise ValueError(f"the piece {again!r} is in the vocabulary twice.")


def check_words(vocabulary: list[str]) -> None:
    """Make sure that pieces can be written one a line and never hold what separates words.

    Raises:
        ValueError: If they can't.
    """
    for i, piece in enumerate(vocabulary):
        if not piece or any(c in piece for c in "\t\n\v\f\r \0"):
            raise ValueError(f"piece {i} is {piece!r}: pieces hold no white space and no NUL.")
