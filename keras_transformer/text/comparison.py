"""Tokenisers compared on one text: how long it gets, and which words are lost."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from keras_transformer._tensorflow import tf
from keras_transformer.text.byte_pair_learner import learn_byte_pairs
from keras_transformer.text.byte_pairs import BytePairTokenizer
from keras_transformer.text.characters import CharacterTokenizer, learn_characters
from keras_transformer.text.learner import count_words, learn_vocabulary
from keras_transformer.text.tokenizer import Tokenizer
from keras_transformer.text.wordpiece import WordPieceTokenizer
from keras_transformer.text.words import WordTokenizer, learn_words

_BATCH = 1024


@dataclasses.dataclass(frozen=True)
class Measured:
    """One kind of tokeniser, learned from nine tenths of a text and measured on the last.

    Attributes:
        name: What kind it is.
        vocabulary_size: How many pieces it has.
        tokens_per_line: How long a line is on average.
        characters_per_token: How long a piece of the text is on average, white space included.
        out_of_vocabulary: The share of the words of the text that are unknown, in whole or in part.
        embedding_parameters: The size of an embedding of the vocabulary.
    """

    name: str
    vocabulary_size: int
    tokens_per_line: float
    characters_per_token: float
    out_of_vocabulary: float
    embedding_parameters: int


def compare_tokenizers(
    lines: Sequence[str], vocabulary_size: int = 8000, width: int = 512
) -> list[Measured]:
    """Learn and measure each kind of tokeniser on one text.

    Args:
        lines: The text, of which the last tenth is held out.
        vocabulary_size: The most pieces each may have.
        width: The width of the embedding, D.

    Returns:
        Words, characters, WordPiece by its two rules and byte-level byte pairs, in this order.

    Raises:
        ValueError: If there are fewer than ten lines, or `vocabulary_size` is too small.
    """
    if len(lines) < 10:
        raise ValueError(f"the text has {len(lines)} lines; it takes at least 10.")
    held_out = len(lines) // 10
    seen, unseen = lines[:-held_out], lines[-held_out:]
    words = count_words(unseen)
    size = vocabulary_size
    kinds: dict[str, Callable[..., Any]] = {
        "words": lambda: WordTokenizer(learn_words(seen, size)),
        "characters": lambda: CharacterTokenizer(learn_characters(seen, size)),
        "WordPiece by count": lambda: WordPieceTokenizer(learn_vocabulary(seen, size)),
        "WordPiece by likelihood": lambda: WordPieceTokenizer(
            _by_likelihood(seen, vocabulary_size)
        ),
        "byte pairs": lambda: BytePairTokenizer(*learn_byte_pairs(seen, size)),
    }
    return [_measure(name, make(), unseen, words, width) for name, make in kinds.items()]


def _by_likelihood(lines: Sequence[str], size: int) -> list[str]:
    """Learn by likelihood, which begins with the rarest pairs.

    So the least count is the greatest one that still fills the vocabulary.
    """

    def learn(count: int) -> list[str]:
        return learn_vocabulary(lines, size, score="likelihood", min_frequency=count)

    best, low, high = learn(2), 2, 4
    while len(best) == size and len(found := learn(high)) == size:
        best, low, high = found, high, 2 * high
    while len(best) == size and high - low > 1:
        middle = (low + high) // 2
        found = learn(middle)
        if len(found) == size:
            best, low = found, middle
        else:
            high = middle
    return best


def _measure(
    name: str, tokenizer: Tokenizer, lines: Sequence[str], words: Counter[str], width: int
) -> Measured:
    def lengths_and_unknown(texts: Sequence[str]) -> tuple[list[int], list[bool]]:
        lengths, unknown = [], []
        for start in range(0, len(texts), _BATCH):
            ids = tokenizer.tokenize(tf.constant(texts[start : start + _BATCH], tf.string))
            found = tf.reduce_any(tf.equal(ids, tokenizer.unknown_id), axis=1)
            lengths += ids.row_lengths().numpy().tolist()
            unknown += found.numpy().tolist()
        return lengths, unknown

    lengths, _ = lengths_and_unknown(lines)
    _, unknown = lengths_and_unknown(list(words))
    lost = sum(count for count, is_lost in zip(words.values(), unknown, strict=True) if is_lost)
    return Measured(
        name,
        vocabulary_size=len(tokenizer),
        tokens_per_line=sum(lengths) / len(lines),
        characters_per_token=sum(map(len, lines)) / max(1, sum(lengths)),
        out_of_vocabulary=lost / max(1, words.total()),
        embedding_parameters=len(tokenizer) * width,
    )
