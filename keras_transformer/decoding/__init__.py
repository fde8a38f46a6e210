"""Decoding: searches over a step function, and generation with a model."""

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)
from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.decoding.beam import BeamSearch, length_penalty
from keras_transformer.decoding.generate import (
    align,
    cross_attention,
    generate,
    logits_of,
    make_search,
    next_token_probabilities,
    score,
)
from keras_transformer.decoding.sampling import filtered_distribution
from keras_transformer.decoding.search import Search
from keras_transformer.decoding.state import Rows, SearchState

__all__ = [
    "BeamSearch",
    "GenerationOptions",
    "Rows",
    "Search",
    "SearchState",
    "align",
    "cross_attention",
    "filtered_distribution",
    "generate",
    "length_penalty",
    "logits_of",
    "make_search",
    "next_token_probabilities",
    "score",
]
