"""The encoder-decoder Transformer, assembled through Keras's functional API.

Three functional graphs share the same layers:

- the model itself, for training: source ids and shifted target ids -> logits of every position;
- `model.encoder`: source ids -> source mask and the keys and values that the decoder reads;
- `model.decoder_step`: one token a row, position and caches -> logits of the next, new caches.

Shapes: B batch, T target length, S source length, H heads, D model width, V vocabulary.

Reference: Vaswani et al. 2017, "Attention Is All You Need".
"""

import keras
from keras import ops

from keras_transformer.layers import (
    Decoder,
    Dropout,
    Encoder,
    LearnedPositions,
    Linear,
    SinusoidalPositions,
    TokenEmbedding,
    attend_to,
    cache_mask,
    causal_mask,
    padding_mask,
)
from keras_transformer.models.config import PADDING_ID, TransformerConfig
from keras_transformer.models.model import Model


@keras.saving.register_keras_serializable("keras_transformer")
class Transformer(Model):
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
            padding is masked inside; no other mask is needed.

    Returns:
        Logits `(B, T, V)` in the compute dtype: row t scores the token that follows
        `target_ids[:, t]`.

    Example:
        config = kt.models.TransformerConfig.preset("tiny", vocabulary_size=8000)
        model = kt.models.Transformer(config)
        model.compile("adam", loss=kt.training.CrossEntropy(label_smoothing=0.1))
        model.fit({"source_ids": source, "target_ids": target[:, :-1]}, target[:, 1:])
    """

    def __init__(self, config, devices=(), **kwargs):
        config = config if isinstance(config, TransformerConfig) else TransformerConfig(**config)
        dtype = kwargs.pop("dtype", None)
        layers = _make_layers(config, dtype, devices)

        source_ids = keras.Input((None,), dtype="int32", name="source_ids")
        target_ids = keras.Input((None,), dtype="int32", name="target_ids")
        source_mask = padding_mask(source_ids, PADDING_ID)  # (B, S)
        memory = layers["encoder"](
            _embed(layers, "source_embedding", source_ids),
            attention_mask=attend_to(source_mask),
        )
        # Padding follows the last token, so the causal mask alone keeps it from real positions.
        states = layers["decoder"](
            _embed(layers, "target_embedding", target_ids),
            memory=memory,
            attention_mask=CausalMask(name="causal_mask")(target_ids),
            memory_mask=attend_to(source_mask),
        )
        logits = _logits(layers, states)
        super().__init__(
            {"source_ids": source_ids, "target_ids": target_ids},
            logits,
            **{"name": "transformer", **kwargs},
        )
        self.config = config
        self.dtype_policy = layers["decoder"].dtype_policy
        # Kept out of Keras's tracking: they own no weights, only new paths through the same layers.
        object.__setattr__(self, "_parts", layers)
        object.__setattr__(self, "encoder", _encoder_graph(layers))
        object.__setattr__(self, "decoder_step", _decoder_step_graph(config, layers))

    def empty_caches(self, batch_size, length):
        """Make room for the keys and values of `length` target positions.

        Args:
            batch_size: Number of rows B.
            length: Number of positions.

        Returns:
            List of N tuples of zeros, each `(B, H, length, d_k)`, for `decoder_step`.
        """
        return self.get_layer("decoder").empty_caches(batch_size, length)

    def embed_source(self, ids):
        """Return embeddings with positions of source ids: `(B, S)` -> `(B, S, D)`."""
        return _embed(self._parts, "source_embedding", ids)

    def embed_target(self, ids):
        """Return embeddings with positions of target ids: `(B, T)` -> `(B, T, D)`."""
        return _embed(self._parts, "target_embedding", ids)

    def get_config(self):
        """Return the configuration as plain values."""
        return {
            "config": self.config.to_dict(),
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuild the model from `get_config`."""
        dtype = config.get("dtype")
        if isinstance(dtype, dict):
            config = {**config, "dtype": keras.dtype_policies.deserialize(dtype)}
        return cls(**config)


@keras.saving.register_keras_serializable("keras_transformer")
class CausalMask(keras.layers.Layer):
    """The causal mask `(1, T, T)` for ids `(B, T)`, as a node of a functional graph."""

    def call(self, ids):
        """Make the mask for as many positions as there are ids."""
        return causal_mask(ops.shape(ids)[1])

    def compute_output_spec(self, ids):
        """Say the shape without knowing the length."""
        return keras.KerasTensor((1, ids.shape[1], ids.shape[1]), dtype="bool")


def _make_layers(config, dtype, devices):
    """Create every layer of the model, by name."""
    block = {
        "num_heads": config.num_heads,
        "d_model": config.d_model,
        "d_ff": config.d_ff,
        "activation": config.activation,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "ffn_dropout": config.ffn_dropout,
        "norm_first": config.norm_first,
        "epsilon": config.layer_norm_epsilon,
        "recompute": config.recompute,
        "devices": devices,
    }

    def embedding(name):
        return TokenEmbedding(
            config.vocabulary_size,
            config.d_model,
            scale=config.scale_embeddings,
            dtype=dtype,
            name=name,
        )

    positions = {"sinusoidal": SinusoidalPositions, "learned": LearnedPositions}[config.positions]
    layers = {
        "source_positions": positions(config.max_length, dtype=dtype, name="source_positions"),
        "target_positions": positions(config.max_length, dtype=dtype, name="target_positions"),
        "embedding_dropout": Dropout(
            config.embedding_dropout, dtype=dtype, name="embedding_dropout"
        ),
        "encoder": Encoder(config.num_layers, **block, dtype=dtype, name="encoder"),
        "decoder": Decoder(config.num_layers, **block, dtype=dtype, name="decoder"),
    }
    if config.tie_embeddings:
        layers["source_embedding"] = layers["target_embedding"] = embedding("embedding")
    else:
        layers["source_embedding"] = embedding("source_embedding")
        layers["target_embedding"] = embedding("target_embedding")
        layers["logits"] = Linear(
            config.vocabulary_size, use_bias=False, dtype=dtype, name="logits"
        )
    return layers


def _embed(layers, embedding, ids, start=0):
    """Embed ids, add their positions and drop out: (B, T) -> (B, T, D)."""
    positions = layers[embedding.replace("embedding", "positions")]
    return layers["embedding_dropout"](positions(layers[embedding](ids), start=start))


def _logits(layers, states):
    """Score the vocabulary against the decoder's states: (B, T, D) -> (B, T, V)."""
    if "logits" in layers:
        return layers["logits"](states)
    return layers["target_embedding"](states, reverse=True)


def _encoder_graph(layers):
    source_ids = keras.Input((None,), dtype="int32", name="source_ids")
    source_mask = padding_mask(source_ids, PADDING_ID)
    memory = layers["encoder"](
        _embed(layers, "source_embedding", source_ids), attention_mask=attend_to(source_mask)
    )
    decoder = layers["decoder"]
    caches = CacheMemory(decoder, dtype=decoder.dtype_policy, name="cache_memory")(memory)
    return keras.Model(source_ids, (source_mask, caches), name="encoder")


class CacheMemory(keras.layers.Layer):
    """The keys and values that every cross-attention of a decoder reads, from the memory."""

    def __init__(self, decoder, **kwargs):
        super().__init__(**kwargs)
        self.decoder = decoder

    def call(self, memory):
        """Project `(B, S, D)` for every block."""
        return self.decoder.cache_memory(memory)


def _decoder_step_graph(config, layers):
    width = config.d_model // config.num_heads
    policy = layers["decoder"].dtype_policy

    def cache_inputs(name):
        return [
            tuple(
                keras.Input(
                    (config.num_heads, None, width),
                    dtype=policy.compute_dtype,
                    name=f"{name}_{i}_{kind}",
                )
                for kind in ("keys", "values")
            )
            for i in range(config.num_layers)
        ]

    inputs = (
        keras.Input((1,), dtype="int32", name="ids"),
        keras.Input(batch_shape=(), dtype="int32", name="index"),
        cache_inputs("cache"),
        keras.Input((None,), dtype="bool", name="source_mask"),
        cache_inputs("memory"),
    )
    step = DecoderStep(layers, dtype=policy, name="step")
    return keras.Model(inputs, step(*inputs), name="decoder_step")


class DecoderStep(keras.layers.Layer):
    """One decoding step as a layer: from a token, its position and caches to logits and caches.

    Call arguments:
        ids: Integer tensor `(B, 1)`, the token of each row at position `index`.
        index: Integer scalar, the position.
        caches: List of N tuples of keys and values of the target, each `(B, H, T, d_k)`.
        source_mask: Boolean tensor `(B, S)`, True at real source tokens.
        memory_caches: List of N tuples of keys and values of the source, each `(B, H, S, d_k)`.

    Returns:
        Tuple of the logits of the next token `(B, V)` and the caches with position `index`
        written.
    """

    def __init__(self, layers, **kwargs):
        super().__init__(**kwargs)
        self.shared = layers

    def call(self, ids, index, caches, source_mask, memory_caches):
        """Run the decoder on one position."""
        length = ops.shape(caches[0][0])[2]
        states, caches = self.shared["decoder"](
            _embed(self.shared, "target_embedding", ids, start=index),
            attention_mask=cache_mask(index, length),
            memory_mask=attend_to(source_mask),
            memory_caches=memory_caches,
            caches=caches,
            cache_index=index,
        )
        return ops.squeeze(_logits(self.shared, states), 1), caches
