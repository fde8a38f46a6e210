"""Text: learning a vocabulary, and tokenising inside the graph."""

from keras_transformer import _quiet  # noqa: F401  (first: it silences the backend's start-up)
from keras_transformer.text.learner import SPECIAL_TOKENS, learn_vocabulary
from keras_transformer.text.wordpiece import WordPieceTokenizer

__all__ = ["SPECIAL_TOKENS", "WordPieceTokenizer", "learn_vocabulary"]
