"""The graphs of decoding, which all models that write text share.

`model.encoder` reads a source, or a prompt, once. `model.decoder_step` takes the newest token of
each hypothesis, its position and caches, and gives the logits of the next and new caches. They take
and give the same in all models, so that one search serves all.

Shapes: B batch, S source length, T target length, K hypotheses of a source, H heads, D model width,
V vocabulary, N blocks.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
from keras import ops

from keras_transformer.layers.layer import Layer, shapes_of
from keras_transformer.typing import Cache, DType, Hidden, Ids, Logits, Shape, Size, Tensor


class DecodingModel:
    """The base of models that write text: caches, and logits that are fast to compute.

    Subclasses have a layer "decoder", and a graph `decoder_step` with a layer "step".
    """

    _parts: dict[str, Any]
    config: Any
    decoder_step: Any
    get_layer: Callable[[str], Any]

    def empty_caches(self, batch_size: Size, length: Size) -> Cache:
        """Make room for the keys and values of `length` target positions.

        Args:
            batch_size: Number of rows B.
            length: Number of positions.

        Returns:
            List of N tuples of zeros, each `(B, H, length, d_k)`, for `decoder_step`.
        """
        return self.get_layer("decoder").empty_caches(batch_size, length)

    def grow_caches(self, caches: Cache, length: Size) -> Cache:
        """Make room in caches for `length` more positions."""
        return self.get_layer("decoder").grow_caches(caches, length)

    def transpose_output(self) -> None:
        """Keep a transposed copy of a tied table for decoding, on a model that is trained.

        A product with a table `(V, D)` takes up to three times as long as one with `(D, V)`. The
        copy is of the weights as they are now. It is not saved with the model.
        """
        if self.config.tie_embeddings:
            table = ops.transpose(self._parts["embed_target"].table.table)
            self._keep(keras.Variable(table, trainable=False))

    @contextlib.contextmanager
    def transposed_output(self) -> Iterator[None]:
        """Decode with such a copy inside the block, on a model that may be trained further."""
        before = self.output_kernel
        self.transpose_output()
        try:
            yield
        finally:
            self._keep(before)

    @property
    def output_kernel(self) -> Any:
        """The copy, float `(D, V)`, or None."""
        return self.decoder_step.get_layer("step").output_kernel

    def _keep(self, kernel: Any) -> None:
        # Out of Keras's tracking, so that it is no weight of the model.
        object.__setattr__(self.decoder_step.get_layer("step"), "output_kernel", kernel)


class DecodingStep(Layer):
    """One decoding step as a layer: from tokens, their position and caches to logits and caches.

    The K hypotheses of a source are K queries side by side. All of them read the source's keys and
    values from one place, and `visible` keeps apart their own, which are in one cache too.

    Call arguments:
        ids: Integer tensor `(B, K)`, the token of each hypothesis at position `index`.
        index: Integer scalar, the position.
        caches: List of N tuples of keys and values of the target, each `(B, H, slots, d_k)`. Slot
            `index * K + k` is hypothesis k's.
        visible: Boolean tensor `(B, K, slots)` or `(1, K, slots)`, True where a hypothesis may
            attend.
        memory_bias: Float tensor `(B, 1, S)`, from the encoder.
        memory_caches: List of N tuples of keys and values of the source, each `(B, H, S, d_k)`.

    Returns:
        Tuple of the logits of the next token `(B, K, V)` and the caches with the slots of position
        `index` written.

    Args:
        config: Configuration of the model.
        layers: Its layers by name.
    """

    def __init__(self, config: Any, layers: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.autocast = False  # the biases have to stay in float32
        self.config = config
        self.shared = layers
        self.output_kernel = None  # see `DecodingModel`

    def compute_output_shape(self, *shapes: Any) -> Any:
        """Return the shapes of the outputs; see `shapes_of`."""
        return shapes_of(self.compute_output_spec, *shapes)

    def compute_output_spec(
        self, ids: Ids, index: Tensor, caches: Cache, *_: Any
    ) -> tuple[keras.KerasTensor, Cache]:
        """Return the specifications of the outputs without running the decoder."""
        shapes = [cache.shape for pair in caches for cache in pair]
        shapes = [(*ids.shape, self.config.vocabulary_size), *shapes]
        logits, *flat = (keras.KerasTensor(shape, dtype=self.compute_dtype) for shape in shapes)
        return logits, list(zip(flat[::2], flat[1::2], strict=True))


def step_graph(step: DecodingStep, memory: Iterable[keras.layers.Layer]) -> keras.Model:
    """Make the graph of a step.

    Args:
        step: The step.
        memory: The attentions that read the source, one for each block.
    """
    policy = step.dtype_policy

    def cache_inputs(name: str, attentions: Iterable[keras.layers.Layer]) -> Cache:
        shapes = [attention.sublayer.cache_shape for attention in attentions]
        return [
            tuple(
                keras.Input(
                    (heads, None, width), dtype=policy.compute_dtype, name=f"{name}_{i}_{kind}"
                )
                for kind in ("keys", "values")
            )
            for i, (heads, width) in enumerate(shapes)
        ]

    written = [block.self_attention for block in step.shared["decoder"].blocks]
    inputs = (
        keras.Input((None,), dtype="int32", name="ids"),
        keras.Input(batch_shape=(), dtype="int32", name="index"),
        cache_inputs("cache", written),
        keras.Input((None, None), dtype="bool", name="visible"),
        keras.Input((1, None), dtype="float32", name="memory_bias"),
        cache_inputs("memory", memory),
    )
    return keras.Model(inputs, step(*inputs), name="decoder_step")


def source_spec(
    attentions: Iterable[keras.layers.Layer], shape: Shape, dtype: DType
) -> tuple[keras.KerasTensor, Cache]:
    """Return what every decoding step reads: the bias `(B, 1, S)`, and keys and values."""
    batch, length = shape
    caches = []
    for attention in attentions:
        heads, width = attention.sublayer.cache_shape
        cache = (batch, heads, length, width)
        # Two objects, because a graph tells its tensors apart by identity.
        caches.append(tuple(keras.KerasTensor(cache, dtype=dtype) for _ in range(2)))
    return keras.KerasTensor((batch, 1, length), dtype="float32"), caches


def logits_of(layers: dict[str, Any], states: Hidden, kernel: Tensor | None = None) -> Logits:
    """Score the vocabulary against the decoder's states.

    Args:
        layers: The model's layers: "logits", or the table of "embed_target"; and "logits_bias".
        states: Float tensor `(B, T, D)`.
        kernel: The table, transposed, float `(D, V)`; None for the layer.

    Returns:
        Float tensor `(B, T, V)`.
    """
    if kernel is not None:  # the table, transposed
        flat = ops.reshape(states, (-1, states.shape[-1]))
        logits = ops.matmul(flat, ops.cast(kernel, states.dtype))
        logits = ops.reshape(logits, (-1, ops.shape(states)[1], logits.shape[-1]))
    elif "logits" in layers:
        logits = layers["logits"](states)
    else:
        logits = layers["embed_target"].table(states, reverse=True)
    return layers["logits_bias"](logits) if "logits_bias" in layers else logits
