"""Decoding: searches over a step function, and generation with a model."""

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)
from keras_transformer.decoding.generate import generate, next_token_probabilities
from keras_transformer.decoding.search import greedy_search

__all__ = ["generate", "greedy_search", "next_token_probabilities"]
