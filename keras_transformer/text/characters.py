"""Characters as pieces: no text over the known alphabet is unknown, but texts get long."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from keras_transformer._tensorflow import tf
from keras_transformer.text import unicode
from keras_transformer.text.code_points import BYTE_OPS, CodePointTable, characters
from keras_transformer.text.joining import DETOKENIZE_OPS, Joiner
from keras_transformer.text.learner import SPECIAL_TOKENS
from keras_transformer.text.tokenizer import Tokenizer
from keras_transformer.text.wordpiece import check_pieces, find_mask, special_tokens
from keras_transformer.typing import Ragged, Strings, Tensor


class CharacterTokenizer(Tokenizer):
    """Turns text into the ids of its characters and back, in the graph.

    White space and newlines are characters as all others. A character that is not in the
    vocabulary becomes `[UNK]`, and so does a stretch of bytes that is not UTF-8. Text never gives
    another special id.

    Args:
        vocabulary: `[PAD] [UNK] [BOS] [EOS]`, which `[MASK]` may follow, and characters, in the
            order of their ids.

    Raises:
        ValueError: If the special tokens are missing, or another piece is repeated or is not one
            character.

    Example:
        tokenizer = CharacterTokenizer(learn_characters(["to be, or not"]))
        tokenizer.detokenize(tokenizer.tokenize(["be not"]))
    """

    kind = "characters"
    file = "characters.json"
    custom_ops = BYTE_OPS | DETOKENIZE_OPS
    padding_id, unknown_id, begin_id, end_id = range(len(SPECIAL_TOKENS))

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = list(vocabulary)
        check_pieces(self.vocabulary)
        self.mask_id = find_mask(self.vocabulary)
        ids = np.full(unicode.CODE_POINTS, self.unknown_id)
        first = len(SPECIAL_TOKENS) + (self.mask_id is not None)
        for i, piece in enumerate(self.vocabulary[first:], first):
            if len(piece) != 1 or "\ud800" <= piece <= "\udfff":
                raise ValueError(f"piece {i} is {piece!r}, which is not one character.")
            ids[ord(piece)] = i
        self._ids = CodePointTable(ids, self.unknown_id)
        special = {self.padding_id, self.begin_id, self.end_id, self.mask_id}
        pieces = [piece.encode() for piece in self.vocabulary]
        self._joiner = Joiner(pieces, [True] * len(pieces), self.unknown_id, special)

    @classmethod
    def _learn(
        cls, lines: Iterable[str], size: int, *, with_mask: bool = False, progress: bool = False
    ) -> Self:
        return cls(learn_characters(lines, size, special_tokens(with_mask)))

    def _cut(self, text: Strings) -> Ragged:
        return self.tokenize_with_sizes(text)[0]

    def tokenize_with_sizes(self, text: Strings) -> tuple[Ragged, Tensor]:
        """Cut text into characters, and say how many bytes of it each is.

        Args:
            text: String tensor `(B,)`, UTF-8.

        Returns:
            What `tokenize` returns, and int32 `(N,)` for the characters of all texts.
        """
        found = characters(text)
        ids = self._ids.look_up(found.codes)
        # Characters before each byte, and so before each row.
        begins = tf.scatter_nd(
            tf.expand_dims(found.places, 1),
            tf.ones_like(found.places),
            tf.shape(found.bytes),
        )
        before = tf.concat([[0], tf.cumsum(begins)], 0)
        rows = tf.cast(tf.gather(before, found.rows), tf.int64)
        ends = tf.concat([found.places, tf.shape(found.bytes)], 0)[1:]
        sizes = ends - found.places
        return tf.RaggedTensor.from_row_splits(ids, rows, validate=False), sizes

    def save(self, path: Path | str) -> None:
        """Write the vocabulary as a list in JSON, in the order of ids."""
        Path(path).write_text(json.dumps(self.vocabulary, ensure_ascii=False), "utf-8")

    @classmethod
    def load(cls, path: Path | str) -> "CharacterTokenizer":
        """Read a vocabulary that `save` wrote.

        Raises:
            OSError: If the file can't be read.
            ValueError: If it is not a vocabulary.
        """
        try:
            pieces = json.loads(Path(path).read_bytes().decode("utf-8"))
            if not isinstance(pieces, list) or not all(isinstance(p, str) for p in pieces):
                raise ValueError("it is not a list of strings.")
            return cls(pieces)
        except ValueError as error:
            raise ValueError(f"{path} is not a vocabulary of characters: {error}") from None


def learn_characters(
    texts: Iterable[str],
    vocabulary_size: int | None = None,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
) -> list[str]:
    """Learn the alphabet of a text.

    Args:
        texts: The lines of text, read once.
        vocabulary_size: The most entries that are kept, the most frequent characters first. None
            keeps all.
        special_tokens: Entries put first, in this order.

    Returns:
        The special tokens, and the characters in the order of their code points.

    Raises:
        TypeError: If `texts` is one string.
        ValueError: If `vocabulary_size` leaves no room for a character.

    Example:
        >>> learn_characters(["abba"])
        ['[PAD]', '[UNK]', '[BOS]', '[EOS]', 'a', 'b']
    """
    if isinstance(texts, str):
        raise TypeError("texts is one string; give an iterable of strings, such as a list.")
    if vocabulary_size is not None and vocabulary_size <= len(special_tokens):
        raise ValueError(
            f"vocabulary_size is {vocabulary_size}; it must be more than the "
            f"{len(special_tokens)} special tokens."
        )
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    kept = sorted(counts, key=lambda c: (-counts[c], c))
    if vocabulary_size is not None:
        kept = kept[: vocabulary_size - len(special_tokens)]
    return [*special_tokens, *sorted(kept)]
