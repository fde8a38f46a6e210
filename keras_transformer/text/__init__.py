"""Text: learning a vocabulary, and tokenising inside the graph."""

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)
from keras_transformer.text.learner import SPECIAL_TOKENS, learn_vocabulary
from keras_transformer.text.wordpiece import WordPieceTokenizer

__all__ = ["SPECIAL_TOKENS", "WordPieceTokenizer", "learn_vocabulary"]
