"""The encoder-decoder Transformer, assembled through Keras's functional API.

Three functional graphs share the same layers:

- the model itself, for training: source ids and shifted target ids -> logits of every position;
- `model.encoder`: source ids -> the keys and values that the decoder reads, and the bias that hides
  those of padding;
- `model.decoder_step`: the newest token of each hypothesis, position and caches -> logits of the
  next, new caches.

Shapes: B batch, T target length, S source length, K hypotheses of a source, H heads, D model width,
V vocabulary.

Reference: Vaswani et al. 2017, "Attention Is All You Need".
"""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from keras_transformer.layers import (
    Decoder,
    Dropout,
    Encoder,
    Linear,
    OutputBias,
    attend_to,
    bias_of,
    causal_mask,
    padding_mask,
)
from keras_transformer.layers.layer import Layer, shapes_of
from keras_transformer.models.assembly import Embedder, embedding, stack_arguments
from keras_transformer.models.config import TransformerConfig
from keras_transformer.models.model import ConfiguredModel
from keras_transformer.models.output_table import TransposesOutput
from keras_transformer.typing import (
    Bias,
    Cache,
    DType,
    Hidden,
    Ids,
    Logits,
    Mask,
    Shape,
    Size,
    Tensor,
)


@keras.saving.register_keras_serializable("keras_transformer")
class Transformer(TransposesOutput, ConfiguredModel):
    """An encoder-decoder Transformer for sequence-to-sequence tasks such as translation.

    It is an ordinary Keras model: `compile`, `fit`, `save`, `summary` and
    `keras.models.load_model` work as always.

    Args:
        config: A `TransformerConfig`, or its fields as a dict.
        devices: Names of devices that the blocks of both stacks are spread over, so that each
            device holds a part of the weights; none for one device.
        **kwargs: `name`, `dtype` (a policy such as "mixed_bfloat16") and `trainable`.

    Call arguments:
        inputs: Dict of `source_ids`, integers `(B, S)`, and `target_ids`, integers `(B, T)`: the
            target shifted right, beginning with the begin token. Both are padded with 0. The
            padding is masked inside; no other mask is needed. Targets have to be padded at their
            ends: the causal mask hides what comes later, so that a token behind padding would
            attend to it.

    Returns:
        Logits `(B, T, V)` in the compute dtype: row t scores the token that follows
        `target_ids[:, t]`.

    Example:
        config = kt.models.TransformerConfig.preset("tiny", vocabulary_size=8000)
        model = kt.models.Transformer(config)
        model.compile("adam", loss=kt.training.CrossEntropy(label_smoothing=0.1))
        model.fit({"source_ids": source, "target_ids": target[:, :-1]}, target[:, 1:])
    """

    config_class = TransformerConfig
    target_embedding = "embed_target"

    def __init__(self, config: Any, devices: Sequence[str] = (), **kwargs: Any) -> None:
        config = self.make_config(config)
        layers = _make_layers(config, kwargs.pop("dtype", None), devices)

        source_ids = keras.Input((None,), dtype="int32", name="source_ids")
        target_ids = keras.Input((None,), dtype="int32", name="target_ids")
        source_mask = padding_mask(source_ids, config.padding_id)  # (B, S)
        memory = layers["encoder"](
            layers["embed_source"](source_ids), attention_mask=attend_to(source_mask)
        )
        # Padding follows the last token, so the causal mask alone keeps it from real positions.
        states = layers["decoder"](
            layers["embed_target"](target_ids),
            memory=memory,
            attention_mask=CausalMask(name="causal_mask")(target_ids),
            memory_mask=attend_to(source_mask),
        )
        logits = _logits(layers, states)
        super().__init__(
            config,
            {"source_ids": source_ids, "target_ids": target_ids},
            logits,
            layers["decoder"].dtype_policy,
            **{"name": config.family, **kwargs},
        )
        # Kept out of Keras's tracking: they own no weights, only new paths through the same layers.
        object.__setattr__(self, "_parts", layers)
        object.__setattr__(self, "encoder", _encoder_graph(config, layers))
        object.__setattr__(self, "decoder_step", _decoder_step_graph(config, layers))

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

    def embed_source(self, ids: Ids) -> Hidden:
        """Return embeddings with positions of source ids: `(B, S)` -> `(B, S, D)`."""
        return self._parts["embed_source"](ids)

    def embed_target(self, ids: Ids) -> Hidden:
        """Return embeddings with positions of target ids: `(B, T)` -> `(B, T, D)`."""
        return self._parts["embed_target"](ids)


@keras.saving.register_keras_serializable("keras_transformer")
class CausalMask(Layer):
    """The causal mask `(1, T, T)` for ids `(B, T)`, as a node of a functional graph."""

    def call(self, ids: Ids) -> Mask:
        """Make the mask for as many positions as there are ids."""
        return causal_mask(ops.shape(ids)[1])

    def compute_output_shape(self, ids_shape: Shape) -> Shape:
        """Return the output's shape: a query and a key for each position, the same for all rows."""
        return 1, ids_shape[1], ids_shape[1]

    def compute_output_spec(self, ids: Ids) -> keras.KerasTensor:
        """Return the specification of the output for any length."""
        return keras.KerasTensor(self.compute_output_shape(ids.shape), dtype="bool")


def _make_layers(config: TransformerConfig, dtype: DType, devices: Sequence[str]) -> dict[str, Any]:
    """Create every layer of the model, by name."""
    dropout = Dropout(config.embedding_dropout, dtype=dtype, name="embedding_dropout")
    layers: dict[str, Any] = {
        "encoder": Encoder(
            config.num_layers, name="encoder", **stack_arguments(config, False, dtype, devices)
        ),
        "decoder": Decoder(
            config.decoder_layers, name="decoder", **stack_arguments(config, True, dtype, devices)
        ),
    }
    if config.tie_embeddings:
        source = target = embedding(config, "embedding", dtype)
    else:
        source = embedding(config, "source_embedding", dtype)
        target = embedding(config, "target_embedding", dtype)
        layers["logits"] = Linear(
            config.vocabulary_size, use_bias=False, dtype=dtype, name="logits"
        )
    if config.logits_bias:
        layers["logits_bias"] = OutputBias(dtype=dtype, name="logits_bias")
    layers["embed_source"] = Embedder.of(config, source, "source_", dropout, dtype)
    layers["embed_target"] = Embedder.of(config, target, "target_", dropout, dtype)
    return layers


def _logits(layers: dict[str, Any], states: Hidden, kernel: Tensor | None = None) -> Logits:
    """Score the vocabulary against the decoder's states: (B, T, D) -> (B, T, V)."""
    if kernel is not None:  # the table, transposed
        flat = ops.reshape(states, (-1, states.shape[-1]))
        logits = ops.matmul(flat, ops.cast(kernel, states.dtype))
        logits = ops.reshape(logits, (-1, ops.shape(states)[1], logits.shape[-1]))
    elif "logits" in layers:
        logits = layers["logits"](states)
    else:
        logits = layers["embed_target"].table(states, reverse=True)
    return layers["logits_bias"](logits) if "logits_bias" in layers else logits


def _encoder_graph(config: TransformerConfig, layers: dict[str, Any]) -> keras.Model:
    source_ids = keras.Input((None,), dtype="int32", name="source_ids")
    source_mask = padding_mask(source_ids, config.padding_id)
    memory = layers["encoder"](
        layers["embed_source"](source_ids), attention_mask=attend_to(source_mask)
    )
    decoder = layers["decoder"]
    cache = CacheMemory(decoder, dtype=decoder.dtype_policy, name="cache_memory")
    return keras.Model(source_ids, cache(memory, source_mask), name="encoder")


class CacheMemory(Layer):
    """The keys and values of all cross-attentions of a decoder, computed once for a source.

    Call arguments:
        memory: Float tensor `(B, S, D)`, the encoder's output.
        source_mask: Boolean tensor `(B, S)`, True at real tokens.

    Returns:
        Tuple of the bias `(B, 1, S)`, float32, that hides padding, and a list of N tuples of keys
        and values, each `(B, H, S, d_k)`. The values of padding are zeros, so that a source of
        padding alone gives zeros, as it does with a mask.
    """

    def __init__(self, decoder: keras.layers.Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.decoder = decoder

    def call(self, memory: Hidden, source_mask: Mask) -> tuple[Bias, Cache]:
        """Project the memory for every block."""
        bias = bias_of(attend_to(source_mask))
        real = ops.expand_dims(ops.expand_dims(source_mask, 1), 3)  # (B, 1, S, 1)
        caches = self.decoder.cache_memory(memory)
        return bias, [(keys, values * ops.cast(real, values.dtype)) for keys, values in caches]

    def compute_output_shape(self, *shapes: Any) -> Any:
        """Return the shapes of the outputs; see `shapes_of`."""
        return shapes_of(self.compute_output_spec, *shapes)

    def compute_output_spec(
        self, memory: Hidden, source_mask: Mask
    ) -> tuple[keras.KerasTensor, Cache]:
        """Return the specifications of the outputs without projecting anything."""
        attentions = [block.cross_attention for block in self.decoder.blocks]
        return source_spec(attentions, source_mask.shape, self.compute_dtype)


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


def _decoder_step_graph(config: TransformerConfig, layers: dict[str, Any]) -> keras.Model:
    policy = layers["decoder"].dtype_policy

    def cache_inputs(name: str) -> Cache:
        blocks = layers["decoder"].blocks
        attentions = [
            block.cross_attention if name == "memory" else block.self_attention for block in blocks
        ]
        return [
            tuple(
                keras.Input(
                    (attention.sublayer.cache_shape[0], None, attention.sublayer.cache_shape[1]),
                    dtype=policy.compute_dtype,
                    name=f"{name}_{i}_{kind}",
                )
                for kind in ("keys", "values")
            )
            for i, attention in enumerate(attentions)
        ]

    inputs = (
        keras.Input((None,), dtype="int32", name="ids"),
        keras.Input(batch_shape=(), dtype="int32", name="index"),
        cache_inputs("cache"),
        keras.Input((None, None), dtype="bool", name="visible"),
        keras.Input((1, None), dtype="float32", name="memory_bias"),
        cache_inputs("memory"),
    )
    step = DecoderStep(layers, dtype=policy, name="step")
    return keras.Model(inputs, step(*inputs), name="decoder_step")


class DecoderStep(Layer):
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
    """

    def __init__(self, layers: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.autocast = False  # the biases have to stay in float32
        self.shared = layers
        self.output_kernel = None  # see `TransposesOutput`

    def call(
        self,
        ids: Ids,
        index: Tensor,
        caches: Cache,
        visible: Mask,
        memory_bias: Bias,
        memory_caches: Cache,
    ) -> tuple[Logits, Cache]:
        """Run the decoder on one position."""
        width = ops.shape(ids)[1]
        # All hypotheses are at the same position, so they are embedded as rows of one token.
        x = self.shared["embed_target"](ops.reshape(ids, (-1, 1)), start=index)
        slots = ops.arange(ops.shape(caches[0][0])[2], dtype="int32")
        states, caches = self.shared["decoder"](
            ops.reshape(x, (-1, width, x.shape[-1])),
            attention_bias=ops.expand_dims(bias_of(visible), 1),
            memory_bias=ops.expand_dims(memory_bias, 1),
            memory_caches=memory_caches,
            caches=caches,
            cache_index=index * width,
            query_positions=ops.reshape(index, (1,)),
            key_positions=slots // width,
        )
        return _logits(self.shared, states, self.output_kernel), caches

    def compute_output_shape(self, *shapes: Any) -> Any:
        """Return the shapes of the outputs; see `shapes_of`."""
        return shapes_of(self.compute_output_spec, *shapes)

    def compute_output_spec(
        self, ids: Ids, index: Tensor, caches: Cache, *_: Any
    ) -> tuple[keras.KerasTensor, Cache]:
        """Return the specifications of the outputs without running the decoder."""
        vocabulary_size = self.shared["embed_target"].table.vocabulary_size
        return step_spec(ids, vocabulary_size, caches, self.compute_dtype)


def step_spec(
    ids: Ids, vocabulary_size: int, caches: Cache, dtype: DType
) -> tuple[keras.KerasTensor, Cache]:
    """Return the specifications of a decoding step: logits `(B, K, V)`, and caches as given."""
    shapes = [(*ids.shape, vocabulary_size), *(cache.shape for pair in caches for cache in pair)]
    logits, *flat = (keras.KerasTensor(shape, dtype=dtype) for shape in shapes)
    return logits, list(zip(flat[::2], flat[1::2], strict=True))
