"""A small model whose targets differ from row to row, where some of them end; and its sources."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.models.config import PADDING_ID

LENGTH = 9  # the model's longest target
SOURCES = np.array(
    [
        [5, 6, 7, 3, 0, 0],
        [8, 3, 0, 0, 0, 0],
        [9, 4, 10, 6, 11, 3],
        [0, 0, 0, 0, 0, 0],
        [12, 5, 9, 3, 0, 0],
        [3, 0, 0, 0, 0, 0],
        [7, 7, 11, 4, 3, 0],
    ]
)
EMPTY = (3, 5)
FULL = [row for row in range(len(SOURCES)) if row not in EMPTY]


@functools.cache
def example():
    """Return a model that no test may change."""
    config = TransformerConfig(13, 2, 2, 8, 16, max_length=LENGTH, tie_embeddings=False)
    model = Transformer(dataclasses.replace(config, positions="learned"))
    rng = np.random.default_rng(214)  # found by trial: most random models repeat one token
    model.set_weights(
        [0.5 * rng.normal(size=w.shape) if w.ndim == 2 else w for w in model.get_weights()]
    )
    return model


def tokens_of(row):
    return [int(token) for token in row if token != PADDING_ID]


def next_logits(model, source, prefix):
    """Run the whole model on one source without padding, and on one prefix."""
    return _next_logits(model, tuple(tokens_of(source)), tuple(int(token) for token in prefix))


@functools.cache
def _next_logits(model, source, prefix):
    inputs = {"source_ids": np.array([source], "int32"), "target_ids": np.array([prefix], "int32")}
    return np.array(_graph(model)(inputs))[0, -1]


@functools.cache
def _graph(model):
    """Return the model as a graph: it is called on hundreds of prefixes."""
    ids = tf.TensorSpec((1, None), "int32")
    return tf.function(model, input_signature=[{"source_ids": ids, "target_ids": ids}])
