"""Words and their pieces: which piece is of which word, in the graph, on every runtime.

A label a word, or an answer that is some of a passage's words, is learned and told by pieces. The
pieces here are those that the tokeniser makes of the text as a whole, so that a model sees what it
saw everywhere else; a word is what lies between ASCII white space.
"""

from typing import Any, NamedTuple

from keras_transformer._quiet import quiet_stderr
from keras_transformer._tensorflow import tf
from keras_transformer.errors import InputError
from keras_transformer.text.slices import SLICE_OPS, owners, slices_of
from keras_transformer.text.tokenizer import Tokenizer
from keras_transformer.text.wordpiece import split_at_white_space
from keras_transformer.typing import Ids, Ragged, Strings, Tensor

with quiet_stderr():
    import tensorflow_text as tf_text

# What a graph with `word_pieces` and `word_strings` needs beside the ops of the tokeniser.
WORD_OPS = SLICE_OPS | {"TFText>WhitespaceTokenizeWithOffsetsV2", "RaggedTensorToTensor"}


class WordPieces(NamedTuple):
    """The pieces of N texts, and the words that they belong to.

    Attributes:
        ids: Ragged int32 `(N, (S))`: the pieces, as `tokenizer.tokenize` gives them.
        word: Ragged int32 `(N, (S))`: for each piece, which word of its text it belongs to. White
            space that is a piece of its own belongs to the word before it, and at the beginning to
            the first, 0.
        first: Ragged bool `(N, (S))`: whether the piece is the first of its word.
        words: Ragged string `(N, (W))`: the words.
        begins: Ragged int32 `(N, (W))`: the byte of the text that a word begins with.
        ends: Ragged int32 `(N, (W))`: the byte behind a word.
        places: Ragged int32 `(N, (W))`: the place of a word's first piece among those of its text;
            0 for a word without pieces.
        counts: Ragged int32 `(N, (W))`: how many pieces a word has. It is 0 where the tokeniser
            leaves all of it out, as BERT's does with control characters. The last piece of a word
            is at `places + counts - 1`.
    """

    ids: Any
    word: Any
    first: Any
    words: Any
    begins: Any
    ends: Any
    places: Any
    counts: Any


def check_words(tokenizer: Tokenizer) -> None:
    """Make sure that each piece of a tokeniser belongs to one word.

    Raises:
        InputError: If pieces may span several words, as some of SentencePiece's do.
    """
    if not getattr(tokenizer, "cuts_words_alone", True):
        raise InputError(
            f"This tokeniser ({tokenizer.kind}) has pieces that span words, so that words can't "
            "have labels of their own."
        )


def word_pieces(tokenizer: Tokenizer, text: Strings) -> WordPieces:
    """Cut text into pieces, and say of each which word it belongs to.

    Args:
        tokenizer: Any of this package's.
        text: String tensor `(N,)`, UTF-8.

    Raises:
        InputError: If pieces of the tokeniser may span several words.
    """
    check_words(tokenizer)
    white_space = tf_text.WhitespaceTokenizer()._config[:16]  # ASCII only; see WordPieceTokenizer
    words, rows, begins, ends = split_at_white_space(text, white_space)  # (W,), (N + 1,), (W,)
    row_words = tf.cast(rows, tf.int32)
    begins, ends = tf.cast(begins, tf.int32), tf.cast(ends, tf.int32)
    if hasattr(tokenizer, "tokenize_with_sizes"):
        # White space is part of pieces: they are found by their bytes.
        ids, sizes = tokenizer.tokenize_with_sizes(text)
        splits = ids.row_splits
        word, first, inside = _by_bytes(sizes, tf.cast(splits, tf.int32), row_words, begins, ends)
        values = ids.values
    else:
        ids = tokenizer.tokenize(words)  # (W, (pieces))
        values, splits = ids.values, tf.gather(ids.row_splits, rows)
        starts = tf.cast(ids.row_splits[:-1], tf.int32)
        word = owners(starts, tf.shape(values)[0])
        before = tf.concat([[-1], word], 0)[:-1]
        first, inside = tf.not_equal(word, before), tf.ones_like(word, tf.bool)
    row_pieces = tf.cast(splits, tf.int32)
    every = tf.range(tf.shape(values)[0])
    which = owners(row_pieces[:-1], tf.shape(values)[0])  # the text of each piece
    local = every - tf.gather(row_pieces, which)
    total = tf.shape(words)
    heads, real = tf.where(first)[:, 0], tf.where(inside)[:, 0]
    places = tf.scatter_nd(
        tf.expand_dims(tf.gather(word, heads), 1), tf.gather(local, heads), total
    )
    of = tf.expand_dims(tf.gather(word, real), 1)
    counts = tf.scatter_nd(of, tf.ones_like(of[:, 0]), total)
    word -= tf.gather(row_words, which)

    def by_text(values: Tensor, splits: Tensor) -> Ragged:
        return tf.RaggedTensor.from_row_splits(values, splits, validate=False)

    return WordPieces(
        *(by_text(values, splits) for values in (values, word, first)),
        *(by_text(values, rows) for values in (words, begins, ends, places, counts)),
    )


def _by_bytes(
    sizes: Tensor, row_pieces: Tensor, row_words: Tensor, begins: Tensor, ends: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the words of pieces that together are all bytes of the texts.

    Args:
        sizes: Int32 `(P,)`: the bytes of each piece.
        row_pieces: Int32 `(N + 1,)`: the pieces before each text.
        row_words: Int32 `(N + 1,)`: the words before each text.
        begins: Int32 `(W,)`: where each word begins in its text.
        ends: Int32 `(W,)`: where it ends.

    Returns:
        For each piece, `(P,)`: the number of its word among those of all texts, int32; whether it
        is the word's first, bool; and whether it holds any of its bytes, bool.
    """
    before = tf.concat([[0], tf.cumsum(sizes)], 0)  # bytes before each piece
    row_bytes = tf.gather(before, row_pieces)
    shift = tf.gather(row_bytes, owners(row_words[:-1], tf.shape(begins)[0]))
    begun = tf.scatter_nd(
        tf.expand_dims(begins + shift, 1), tf.ones_like(begins), tf.expand_dims(before[-1] + 1, 0)
    )
    begun = tf.concat([[0], tf.cumsum(begun)], 0)  # words that begin before each byte
    word = tf.gather(begun, before[1:])
    first = word > tf.gather(begun, before[:-1])
    least = tf.gather(row_words, owners(row_pieces[:-1], tf.shape(sizes)[0]))
    real = word > least  # not white space at the beginning
    word = tf.maximum(word - 1, least)
    ends = tf.concat([ends + shift, [0]], 0)  # none, if there are no words at all
    inside = tf.logical_and(real, before[:-1] < tf.gather(ends, word))
    return word, first, inside


def padded(rows: Ragged, fill: int = 0) -> Ids:
    """Make a dense tensor of ragged numbers.

    Args:
        rows: Ragged int32 tensor `(N, (S))`.
        fill: What fills up short rows.

    Returns:
        Int32 tensor `(N, S)`, with at least one column, because not every runtime likes none.
    """
    dense = rows.to_tensor(fill, shape=[None, None])
    missing = 1 - tf.minimum(tf.shape(dense)[1], 1)
    return tf.pad(dense, [[0, 0], [0, missing]], constant_values=fill)


def word_strings(text: Strings, pieces: WordPieces) -> Strings:
    """Return the words of texts as a dense tensor, which `pieces.words` can't become in LiteRT.

    Args:
        text: String tensor `(N,)`.
        pieces: What `word_pieces` made of it.

    Returns:
        String tensor `(N, W)`, padded with empty strings, with at least one column.
    """
    return slices_of(text, padded(pieces.begins), padded(pieces.ends))
