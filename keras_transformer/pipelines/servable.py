"""Models in graphs: signatures as TensorFlow functions, each traced once.

What is exported, and what a run folder answers with, is made of these.
"""

import dataclasses
import reprlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from keras_transformer.artefacts.artefact import (
    Artefact,
    Spec,
    as_arrays,
    batched_inputs,
    check_arrays,
    specs_of,
)
from keras_transformer.errors import InputError
from keras_transformer.models.model import ConfiguredModel
from keras_transformer.typing import Logits, Strings, Tensor, Tensors

IDS = frozenset({"ids", "segment_ids"})  # inputs that are looked up in tables


def strings(*names: str) -> dict[str, tf.TensorSpec]:
    """Return the specifications of string tensors `(B,)`, by name."""
    return {name: tf.TensorSpec([None], tf.string, name=name) for name in names}


@dataclasses.dataclass(frozen=True)
class LiteFile:
    """The content of a `.tflite` file.

    Attributes:
        takes: What it takes, in a word.
        signatures: Names of its signatures.
        custom_ops: The custom ops that may be in it.
    """

    takes: str
    signatures: list[str]
    custom_ops: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Call:
    """A call of a file, whose answer is compared with the model's.

    Attributes:
        signature: What is called.
        inputs: Its arrays, or lists of texts, by name.
    """

    signature: str
    inputs: dict[str, Any]


class Servable(Artefact):
    """A model and its tokeniser, if it has one, with signatures.

    Subclasses set `model` and `tokenizer`, write `_all_graphs`, and call `super().__init__()` last.
    """

    model: Any
    tokenizer: Any
    model_class: ClassVar[type[ConfiguredModel]]  # of the model that it takes
    more_ops: frozenset[str] = frozenset()  # custom ops of its own, beside the tokeniser's
    numbers = "probabilities"  # the output that has to be the model's in every file
    # The output of which a smaller file may get a few wrong, by signature; without it the numbers
    # are vectors, which are compared by the order of their products.
    answers: ClassVar[dict[str, str]] = {}
    tensors: ClassVar[dict[str, str]] = {}  # what those are whose names mean something else here

    def __init__(self) -> None:
        self._graphs = self._all_graphs()
        self._functions: dict[str, tf.types.experimental.ConcreteFunction] = {}
        self._tracing = threading.RLock()

    def _all_graphs(self) -> dict[str, tuple[Callable[..., Any], Any]]:
        """Return each signature's function, and what it takes."""
        raise NotImplementedError

    @property
    def signatures(self) -> frozenset[str]:  # type: ignore[override]  # nobody sets it
        """The names of what can be called."""
        return frozenset(self._graphs)

    @property
    def lite_files(self) -> dict[str, LiteFile]:
        """The `.tflite` files by kind, which is a part of their names: `ids`: `model.ids.tflite`.

        The kind `""` is `model.tflite`.
        """
        text = sorted(self.signatures - {"ids"})
        ops = self.tokenizer.custom_ops | self.more_ops
        return {"": LiteFile("text", text, ops), "ids": LiteFile("pieces", ["ids"])}

    def calls(self, texts: Sequence[str]) -> dict[str, Call]:
        """Return what each kind of file is asked to be proven, the SavedModel's included.

        Args:
            texts: A batch of ordinary sentences, and of some that are not.
        """
        raise NotImplementedError

    def call(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        """Call a signature; see `Artefact.call`."""
        function, specs = self.function(signature), self.inputs(signature)
        arrays = as_arrays(inputs)
        check_arrays(arrays, specs_of(specs))
        tensors = {name: tf.constant(x, specs[name].dtype) for name, x in arrays.items()}
        return {name: tensor.numpy() for name, tensor in function(**tensors).items()}

    def specs(self, signature: str) -> tuple[dict[str, Spec], dict[str, Spec]]:
        """Return what a signature takes and gives; see `Artefact.specs`."""
        outputs = self.function(signature).structured_outputs
        return specs_of(self.inputs(signature)), specs_of(outputs)

    @property
    def vocabulary(self) -> list[str]:
        """The pieces that ids stand for."""
        return self.tokenizer.vocabulary

    def inputs(self, signature: str) -> dict[str, tf.TensorSpec]:
        """Return the `tf.TensorSpec` of each input of a signature, by name."""
        specs = self._graphs[signature][1]
        return specs() if callable(specs) else specs

    def function(self, signature: str) -> tf.types.experimental.ConcreteFunction:
        """Return a signature as a concrete function, which is traced once and taken by name."""
        with self._tracing:
            if signature not in self._functions:
                answer, specs = self._graphs[signature][0], self.inputs(signature)

                def graph(**inputs: Tensor) -> Tensors:
                    return answer(**checked(inputs, specs))

                traced = tf.function(graph, autograph=False)
                self._functions[signature] = traced.get_concrete_function(**specs)
            return self._functions[signature]


def checked(inputs: Tensors, specs: Mapping[str, tf.TensorSpec]) -> Tensors:
    """Refuse, in the graph, inputs that are not as a signature says.

    A server that is fed by name (TensorFlow Serving, any C++ program) checks no rank, and neither
    does LiteRT; tf.text's ops read beyond a tensor of another rank, which ends the process.

    Args:
        inputs: Tensors by name.
        specs: The `tf.TensorSpec` of each.

    Returns:
        The same tensors. In TensorFlow the graph fails with INVALID_ARGUMENT where one has another
        rank, another size in an axis that has a fixed one, or not as many rows as the first. LiteRT
        refuses another number of elements than the shape has room for. In both, ids that are not
        in a table fail where they are looked up.
    """
    inputs = {name: tf.ensure_shape(x, specs[name].shape) for name, x in inputs.items()}
    sizes = {name: _sizes(x, specs[name].shape) for name, x in inputs.items()}
    first, *others = batched_inputs(specs_of(specs))
    rows = sizes[first][0]
    same = []
    for name in others:
        message = f"{name} has to have as many rows as {first}."
        same.append(tf.debugging.assert_equal(sizes[name][0], rows, message))
        sizes[name][0] = rows
    with tf.control_dependencies(same):
        for name, x in inputs.items():
            inputs[name] = tf.reshape(x, tf.stack(sizes[name]) if sizes[name] else [])
    for name in IDS & inputs.keys():
        # Keras would count a negative one from the end of the table; this one no table has.
        inputs[name] = tf.where(inputs[name] < 0, tf.int32.max, inputs[name])
    return inputs


def _sizes(x: Tensor, shape: tf.TensorShape) -> list[Any]:
    """Return the sizes of a tensor's axes; in LiteRT it may have fewer axes than it should."""
    given = tf.concat([tf.shape(x), tf.ones([shape.rank], tf.int32)], 0)
    return [given[i] if size is None else size for i, size in enumerate(shape)]


def check_labels(labels: Any, model: ConfiguredModel) -> list[str]:
    """Return the names of labels.

    Raises:
        InputError: If they are no list of names, or there are not as many as the model has logits.
    """
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Iterable):
        raise InputError(
            "labels must be a list of names, in the order of the model's logits; got "
            f"{reprlib.repr(labels)}."
        )
    names = [str(label) for label in labels]
    if len(names) != model.output.shape[-1]:
        raise InputError(
            f"The model has {model.output.shape[-1]} labels, but {len(names)} are named."
        )
    return names


def likeliest(
    logits: Logits,
    labels: list[str],
    real: Tensor | None = None,
    activation: Callable[..., Any] = tf.nn.softmax,
) -> tuple[Strings, Tensor, Tensor]:
    """Take the likeliest label.

    Args:
        logits: Float tensor `(..., C)`.
        labels: Names of the C labels.
        real: Bool tensor `(...)`: where there is something to label. Elsewhere the label is "" and
            its probability 0.
        activation: Function from logits to probabilities.

    Returns:
        Strings `(...)`, the labels; float32 `(...)`, their probabilities; and float32 `(..., C)`,
        the probabilities of all of them.
    """
    probabilities = activation(tf.cast(logits, tf.float32))
    best = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
    probability = tf.reduce_max(probabilities, axis=-1)
    if real is not None:
        best = tf.where(real, best, len(labels))  # LiteRT chooses between numbers, not strings
        probability = tf.where(real, probability, 0.0)
    return tf.gather(tf.constant([*labels, ""]), best), probability, probabilities
