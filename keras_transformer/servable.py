"""Models in graphs: signatures as TensorFlow functions, each traced once.

What is exported, and what a run folder answers with, is made of these.
"""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)

# isort: split

import tensorflow as tf

from keras_transformer.artefact import Artefact, as_arrays, specs_of


def strings(*names: str) -> dict[str, tf.TensorSpec]:
    """Return the specifications of string tensors `(B,)`, by name."""
    return {name: tf.TensorSpec([None], tf.string, name=name) for name in names}


class Servable(Artefact):
    """A model and its tokeniser, with signatures.

    Subclasses set `model` and `tokenizer`, write `_all_graphs`, and call `super().__init__()` last.
    """

    model: Any
    tokenizer: Any

    def __init__(self):
        self._graphs = self._all_graphs()
        self._functions: dict[str, tf.types.experimental.ConcreteFunction] = {}
        self._tracing = threading.RLock()

    def _all_graphs(self) -> dict[str, tuple[Callable, Any]]:
        """Return each signature's function, and what it takes."""
        raise NotImplementedError

    @property
    def signatures(self) -> frozenset[str]:  # type: ignore[override]
        """The names of what can be called."""
        return frozenset(self._graphs)

    def call(self, signature: str, **inputs) -> dict[str, np.ndarray]:
        """Call a signature; see `Artefact.call`."""
        function, specs = self.function(signature), self.inputs(signature)
        tensors = {name: tf.constant(x, specs[name].dtype) for name, x in as_arrays(inputs).items()}
        return {name: tensor.numpy() for name, tensor in function(**tensors).items()}

    def specs(self, signature: str):
        """Return what a signature takes and gives; see `Artefact.specs`."""
        outputs = self.function(signature).structured_outputs
        return specs_of(self.inputs(signature)), specs_of(outputs)

    @property
    def vocabulary(self) -> list[str]:
        """The pieces that ids stand for."""
        return self.tokenizer.vocabulary

    def inputs(self, signature: str):
        """Return the `tf.TensorSpec` of each input of a signature, by name."""
        specs = self._graphs[signature][1]
        return specs() if callable(specs) else specs

    def function(self, signature: str):
        """Return a signature as a concrete function, which is traced once and taken by name."""
        with self._tracing:
            if signature not in self._functions:
                graph = tf.function(self._graphs[signature][0])
                specs = self.inputs(signature)
                self._functions[signature] = graph.get_concrete_function(**specs)
            return self._functions[signature]


def count_tokens(ids, padding_id: int):
    """Count the tokens of each row: `(B, S)`, padded -> int32 `(B,)`."""
    return tf.reduce_sum(tf.cast(tf.not_equal(ids, padding_id), tf.int32), axis=1)


def cut_and_end(ids, max_length: int, end_id: int, padding_id: int, begin_id: int | None = None):
    """End each row with the end token, cutting rows that would be longer than `max_length`.

    Args:
        ids: Int32 tensor `(B, S)`, padded.
        max_length: Greatest length of a row, special tokens included.
        end_id: The end token.
        padding_id: What fills up short rows.
        begin_id: A token to begin each row with, or None.

    Returns:
        Int32 tensor `(B, min(S + 1, max_length))`, a column more with a begin token.
    """
    before = 0 if begin_id is None else 1
    width = tf.minimum(tf.shape(ids)[1], max_length - 1 - before)
    ids = tf.slice(ids, [0, 0], tf.stack([-1, width]))
    counts = count_tokens(ids, padding_id)
    if begin_id is not None:
        ids = tf.pad(ids, [[0, 0], [1, 0]], constant_values=begin_id)
    ids = tf.pad(ids, [[0, 0], [0, 1]], constant_values=padding_id)
    places = tf.expand_dims(tf.range(width + 1 + before), 0)
    return tf.where(tf.equal(places, tf.expand_dims(counts + before, 1)), end_id, ids)
