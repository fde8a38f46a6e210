"""Words as pieces: texts stay short, but a word that was not learned is lost."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from keras_transformer._quiet import quiet_stderr
from keras_transformer._tensorflow import tf
from keras_transformer.text.joining import DETOKENIZE_OPS, Joiner
from keras_transformer.text.learner import SPECIAL_TOKENS, count_words
from keras_transformer.text.tokenizer import Tokenizer, read_pieces
from keras_transformer.text.wordpiece import (
    MAX_BYTES_PER_WORD,
    UNKNOWN_TOKEN,
    check_pieces,
    check_words,
    find_mask,
    special_tokens,
    split_at_white_space,
)
from keras_transformer.typing import Ragged, Strings

with quiet_stderr():
    import tensorflow_text as tf_text


class WordTokenizer(Tokenizer):
    """Turns text into the ids of its words and back, in the graph.

    A word is what stands between ASCII white space. One that is not in the vocabulary becomes
    `[UNK]`, and does not come back. Text never gives another special id. Words come back with a
    space between.

    Args:
        vocabulary: `[PAD] [UNK] [BOS] [EOS]`, which `[MASK]` may follow, and words, in the order of
            their ids.

    Raises:
        ValueError: If the special tokens are missing, or a piece is empty, repeated, or contains
            white space.

    Example:
        tokenizer = WordTokenizer(learn_words(lines, 8000))
        tokenizer.detokenize(tokenizer.tokenize(["Two young men."]))
    """

    kind = "words"
    file = "words.txt"
    custom_ops = DETOKENIZE_OPS | {
        "FastWordpieceTokenizeWithOffsets",
        "TFText>WhitespaceTokenizeWithOffsetsV2",
    }
    padding_id, unknown_id, begin_id, end_id = range(len(SPECIAL_TOKENS))

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = list(vocabulary)
        check_pieces(self.vocabulary)
        check_words(self.vocabulary)
        self.mask_id = find_mask(self.vocabulary)
        special = {self.padding_id, self.begin_id, self.end_id, self.mask_id}
        self._white_space = tf_text.WhitespaceTokenizer()._config[:16]  # ASCII only
        # WordPiece without continuations. No word holds a space, so none is a special token or the
        # one continuation, without which tf.text would put in one of its own.
        words = [p + " " if i in special else p for i, p in enumerate(self.vocabulary)]
        self._pieces = tf_text.FastWordpieceTokenizer(
            vocab=[*words, "  "],
            suffix_indicator=" ",
            unknown_token=UNKNOWN_TOKEN,
            max_bytes_per_word=MAX_BYTES_PER_WORD,
            token_out_type=tf.int32,
            no_pretokenization=True,
        )
        pieces = [piece.encode() for piece in self.vocabulary]
        self._joiner = Joiner(pieces, [False] * len(pieces), self.unknown_id, special)

    @classmethod
    def _learn(
        cls, lines: Iterable[str], size: int, *, with_mask: bool = False, **options: Any
    ) -> Self:
        return cls(learn_words(lines, size, special_tokens=special_tokens(with_mask), **options))

    def _cut(self, text: Strings) -> Ragged:
        words, rows, _, _ = split_at_white_space(text, self._white_space)
        ids = self._pieces.tokenize(words)  # (words, (1))
        return tf.RaggedTensor.from_row_splits(ids.values, rows, validate=False)

    @classmethod
    def load(cls, path: Path | str) -> "WordTokenizer":
        """Read a vocabulary that `save` wrote.

        Raises:
            OSError: If the file can't be read.
            ValueError: If it is not a vocabulary.
        """
        try:
            return cls(read_pieces(path))
        except ValueError as error:
            raise ValueError(f"{path} is not a vocabulary of words: {error}") from None


def learn_words(
    texts: Iterable[str],
    vocabulary_size: int,
    *,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    min_frequency: int = 1,
    max_words: int = 2_000_000,
    progress: bool = False,
) -> list[str]:
    """Learn the words of a text: the most frequent ones.

    Args:
        texts: The lines of text, read once.
        vocabulary_size: The number of entries wanted. There are fewer only if the texts have fewer.
        special_tokens: Entries put first, in this order.
        min_frequency: Words counted less often than this are left out.
        max_words: How many different words are held in memory. Beyond it the rarest are dropped.
        progress: Show a progress bar on standard error. Needs the package `rich`.

    Returns:
        The special tokens and the words, the most frequent first, equal ones by the alphabet.

    Raises:
        TypeError: If `texts` is one string.
        ValueError: If `vocabulary_size` leaves no room for a word.

    Example:
        >>> learn_words(["a rose is", "a rose"], 6)
        ['[PAD]', '[UNK]', '[BOS]', '[EOS]', 'a', 'rose']
    """
    if vocabulary_size <= len(special_tokens):
        raise ValueError(
            f"vocabulary_size is {vocabulary_size}; it must be more than the "
            f"{len(special_tokens)} special tokens."
        )
    counts = count_words(texts, max_words, progress)
    words = [
        word
        for word, count in counts.items()
        if count >= min_frequency and word not in special_tokens and "\0" not in word
    ]
    words.sort(key=lambda word: (-counts[word], word))
    return [*special_tokens, *words[: vocabulary_size - len(special_tokens)]]
