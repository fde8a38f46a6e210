"""A toy language and a model that has learned it, made once a process."""

import functools
from types import SimpleNamespace

import keras
import numpy as np

from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.training import CrossEntropy, TokenAccuracy, paper_adam


def reversed_and_reworded(rng, rows):
    """A toy language: the words in reverse, each replaced by another one."""
    words = np.array([0, 0, 0, 0, *(4 + (np.arange(8) * 3 + 1) % 8)])
    source, target = np.zeros((rows, 6), "int32"), np.zeros((rows, 7), "int32")
    for row in range(rows):
        length = rng.integers(2, 6)
        sentence = rng.integers(4, 12, length)
        source[row, : length + 1] = [*sentence, 3]
        target[row, : length + 2] = [2, *words[sentence[::-1]], 3]
    return source, target


@functools.cache
def toy():
    """Return the model, the history of its training, and pairs that it has not seen."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    source, target = reversed_and_reworded(rng, 2560)
    config = TransformerConfig(12, 1, 2, 32, 64, max_length=16, dropout=0.0, embedding_dropout=0.0)
    model = Transformer(config)
    model.compile(
        paper_adam(0.005), loss=CrossEntropy(), metrics=[TokenAccuracy()], jit_compile=False
    )
    inputs, labels = {"source_ids": source, "target_ids": target[:, :-1]}, target[:, 1:]
    history = model.fit(inputs, labels, batch_size=64, epochs=10, verbose=0).history
    unseen, answers = reversed_and_reworded(rng, 64)
    return SimpleNamespace(model=model, history=history, source=unseen, labels=answers[:, 1:])
