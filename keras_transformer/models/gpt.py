"""GPT: a decoder alone, which continues a text from left to right.

Three functional graphs share the same layers:

- the model itself, for training: ids -> logits of every position;
- `model.encoder`: a prompt -> the keys and values of all its tokens but the last, in one pass;
- `model.decoder_step`: the newest token of each hypothesis, position and caches -> logits of the
  next, new caches.

They take and give what those of `Transformer` do, so that one search serves both: what a source is
there, a prompt is here, read once and shared by all hypotheses.

Shapes: B batch, S length of the prompt, T length, K hypotheses, H heads, D width, V vocabulary.

Reference: Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training", and
2019, "Language Models are Unsupervised Multitask Learners".
"""

import dataclasses
from typing import Any, ClassVar

import keras
from keras import ops

from keras_transformer.layers import Decoder, Linear, bias_of
from keras_transformer.layers.layer import Layer, shapes_of
from keras_transformer.models.assembly import Embedder, embedding, stack_arguments
from keras_transformer.models.config import END_ID, Positions, StackConfig
from keras_transformer.models.model import ConfiguredModel
from keras_transformer.models.output_table import TransposesOutput
from keras_transformer.models.transformer import CausalMask, source_spec, step_spec
from keras_transformer.typing import Bias, Cache, DType, Hidden, Ids, Logits, Mask, Size, Tensor


@dataclasses.dataclass(frozen=True)
class GptConfig(StackConfig):
    """Everything that decides a decoder-only language model; the defaults are GPT-2's smallest.

    A text is ended by `end_id`, and the next one begins after it: `begin_id` is the same token.
    """

    family = "gpt"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        # karpathy/nanoGPT's settings for characters on a CPU.
        "gpt-nano": {
            "num_layers": 4,
            "num_heads": 4,
            "d_model": 128,
            "d_ff": 512,
            "max_length": 64,
            "use_bias": False,
            "dropout": 0.0,
            "embedding_dropout": 0.0,
            "attention_dropout": 0.0,
        },
        "gpt-tiny": {"num_layers": 4, "num_heads": 4, "d_model": 128, "d_ff": 512},
        "gpt-small": {"num_layers": 6, "num_heads": 6, "d_model": 384, "d_ff": 1536},
        # The first GPT: norms after the sub-layers.
        "gpt1": {
            "vocabulary_size": 40478,
            "max_length": 512,
            "norm_first": False,
        },
        "gpt2": {"vocabulary_size": 50257, "begin_id": 50256, "end_id": 50256},
        "gpt2-medium": {
            "vocabulary_size": 50257,
            "begin_id": 50256,
            "end_id": 50256,
            "num_layers": 24,
            "num_heads": 16,
            "d_model": 1024,
            "d_ff": 4096,
        },
        "gpt2-large": {
            "vocabulary_size": 50257,
            "begin_id": 50256,
            "end_id": 50256,
            "num_layers": 36,
            "num_heads": 20,
            "d_model": 1280,
            "d_ff": 5120,
        },
        "gpt2-xl": {
            "vocabulary_size": 50257,
            "begin_id": 50256,
            "end_id": 50256,
            "num_layers": 48,
            "num_heads": 25,
            "d_model": 1600,
            "d_ff": 6400,
        },
        # What later models changed: RMS norms, rotary positions, SwiGLU, shared keys and values.
        "gpt-modern": {
            "num_layers": 6,
            "num_heads": 6,
            "d_model": 384,
            "d_ff": 1024,
            "norm": "rms",
            "positions": "rotary",
            "activation": "silu",
            "gated": True,
            "use_bias": False,
            "num_kv_heads": 2,
        },
    }

    num_layers: int = 12
    num_heads: int = 12
    d_model: int = 768
    d_ff: int = 3072
    activation: str = "gelu_tanh"
    attention_dropout: float = 0.1
    norm_first: bool = True
    layer_norm_epsilon: float = 1e-5
    positions: Positions = "learned"
    max_length: int = 1024
    scale_embeddings: bool = False
    begin_id: int = END_ID
    end_id: int = END_ID

    def special_ids(self, tokenizer: Any) -> dict[str, Any]:
        """Return the ids of special tokens: the end of a text is the beginning of the next."""
        ids = super().special_ids(tokenizer)
        return {**ids, "begin_id": ids["end_id"]}


@keras.saving.register_keras_serializable("keras_transformer")
class Gpt(TransposesOutput, ConfiguredModel):
    """A decoder-only language model.

    Args:
        config: A `GptConfig`, or its fields as a dict.
        **kwargs: `name`, `dtype` (a policy such as "mixed_bfloat16") and `trainable`.

    Call arguments:
        inputs: Dict of `token_ids`, integers `(B, T)`. Short rows have to be padded at their end,
            where the causal mask keeps the padding from real tokens; a token behind padding would
            attend to it.

    Returns:
        Logits `(B, T, V)` in the compute dtype: row t scores the token that follows
        `token_ids[:, t]`.

    Example:
        model = kt.models.Gpt(kt.models.GptConfig.preset("gpt-tiny", vocabulary_size=8000))
        model.compile("adam", loss=kt.training.CrossEntropy())
        model.fit({"token_ids": ids[:, :-1]}, ids[:, 1:])
        kt.decoding.generate(model, prompt_ids)

    Reference: Radford et al. 2018 and 2019.
    """

    config_class = GptConfig
    target_embedding = "embed"
    continues = True  # what it writes goes on from what it read

    def __init__(self, config: Any, **kwargs: Any) -> None:
        config = self.make_config(config)
        layers = _make_layers(config, kwargs.pop("dtype", None))
        token_ids = keras.Input((None,), dtype="int32", name="token_ids")
        states = layers["decoder"](
            layers["embed"](token_ids), attention_mask=CausalMask(name="causal_mask")(token_ids)
        )
        super().__init__(
            config,
            {"token_ids": token_ids},
            _logits(layers, states),
            layers["decoder"].dtype_policy,
            **{"name": config.family, **kwargs},
        )
        # Kept out of Keras's tracking: they own no weights, only new paths through the same layers.
        object.__setattr__(self, "_parts", layers)
        object.__setattr__(self, "encoder", _prompt_graph(config, layers))
        object.__setattr__(self, "decoder_step", _step_graph(config, layers))

    def empty_caches(self, batch_size: Size, length: Size) -> Cache:
        """Make room for the keys and values of `length` new positions; see `Decoder`."""
        return self.get_layer("decoder").empty_caches(batch_size, length)

    def grow_caches(self, caches: Cache, length: Size) -> Cache:
        """Make room in caches for `length` more positions."""
        return self.get_layer("decoder").grow_caches(caches, length)


def _make_layers(config: GptConfig, dtype: DType) -> dict[str, Any]:
    layers = {
        "embed": Embedder.of(config, embedding(config, "embedding", dtype), "", dtype=dtype),
        "decoder": Decoder(
            config.num_layers,
            cross_attention=False,
            name="decoder",
            **stack_arguments(config, True, dtype),
        ),
    }
    if not config.tie_embeddings:
        layers["logits"] = Linear(
            config.vocabulary_size, use_bias=False, dtype=dtype, name="logits"
        )
    return layers


def _logits(layers: dict[str, Any], states: Hidden, kernel: Tensor | None = None) -> Logits:
    """Score the vocabulary: (B, T, D) -> (B, T, V)."""
    if kernel is not None:  # the table, transposed
        flat = ops.reshape(states, (-1, states.shape[-1]))
        logits = ops.matmul(flat, ops.cast(kernel, states.dtype))
        return ops.reshape(logits, (-1, ops.shape(states)[1], logits.shape[-1]))
    if "logits" in layers:
        return layers["logits"](states)
    return layers["embed"].table(states, reverse=True)


def _prompt_graph(config: GptConfig, layers: dict[str, Any]) -> keras.Model:
    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    policy = layers["decoder"].dtype_policy
    outputs = ReadPrompt(config, layers, dtype=policy, name="read_prompt")(token_ids)
    return keras.Model(token_ids, outputs, name="prompt")


class ReadPrompt(Layer):
    """The keys and values of a prompt, computed for all of its tokens at once.

    Call arguments:
        token_ids: Integer tensor `(B, S)`, padded at the end.

    Returns:
        Tuple of the bias `(B, 1, S)`, float32, that hides padding and each row's last token, which
        the first step takes; and a list of N tuples of keys and values, each `(B, H, S, d_k)`.
    """

    def __init__(self, config: GptConfig, layers: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.shared = layers

    def call(self, token_ids: Ids) -> tuple[Bias, Cache]:
        """Run the decoder on the prompt."""
        decoder = self.shared["decoder"]
        batch, length = ops.shape(token_ids)
        real = ops.cast(ops.not_equal(token_ids, self.config.padding_id), "int32")
        last = ops.sum(real, axis=1, keepdims=True) - 1  # (B, 1)
        places = ops.arange(length, dtype="int32")
        before = ops.expand_dims(places, 0) < last  # (B, S)
        _, caches = decoder(
            self.shared["embed"](token_ids),
            attention_mask=CausalMask()(token_ids),
            caches=decoder.empty_caches(batch, length),
            cache_index=ops.convert_to_tensor(0, dtype="int32"),
            query_positions=places,
            key_positions=places,
        )
        return bias_of(ops.expand_dims(before, 1)), caches

    def compute_output_shape(self, *shapes: Any) -> Any:
        """Return the shapes of the outputs; see `shapes_of`."""
        return shapes_of(self.compute_output_spec, *shapes)

    def compute_output_spec(self, token_ids: Ids) -> tuple[keras.KerasTensor, Cache]:
        """Return the specifications of the outputs for any lengths."""
        attentions = [block.self_attention for block in self.shared["decoder"].blocks]
        return source_spec(attentions, token_ids.shape, self.compute_dtype)


def _step_graph(config: GptConfig, layers: dict[str, Any]) -> keras.Model:
    policy = layers["decoder"].dtype_policy

    def cache_inputs(name: str) -> Cache:
        shapes = [block.self_attention.sublayer.cache_shape for block in layers["decoder"].blocks]
        return [
            tuple(
                keras.Input(
                    (heads, None, width), dtype=policy.compute_dtype, name=f"{name}_{i}_{kind}"
                )
                for kind in ("keys", "values")
            )
            for i, (heads, width) in enumerate(shapes)
        ]

    inputs = (
        keras.Input((None,), dtype="int32", name="ids"),
        keras.Input(batch_shape=(), dtype="int32", name="index"),
        cache_inputs("cache"),
        keras.Input((None, None), dtype="bool", name="visible"),
        keras.Input((1, None), dtype="float32", name="memory_bias"),
        cache_inputs("memory"),
    )
    step = GptStep(config, layers, dtype=policy, name="step")
    return keras.Model(inputs, step(*inputs), name="decoder_step")


class GptStep(Layer):
    """One decoding step as a layer: from tokens, their position and caches to logits and caches.

    Call arguments:
        ids: Integer tensor `(B, K)`, the token of each hypothesis at position `index` after the
            prompt's last but one.
        index: Integer scalar, the position.
        caches: List of N tuples of keys and values of what was written, each `(B, H, slots, d_k)`.
            Slot `index * K + k` is hypothesis k's.
        visible: Boolean tensor `(B, K, slots)` or `(1, K, slots)`, True where a hypothesis may
            attend.
        memory_bias: Float tensor `(B, 1, S)`, from the prompt.
        memory_caches: List of N tuples of keys and values of the prompt, each `(B, H, S, d_k)`.

    Returns:
        Tuple of the logits of the next token `(B, K, V)` and the caches with the slots of position
        `index` written.
    """

    def __init__(self, config: GptConfig, layers: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.autocast = False  # the biases have to stay in float32
        self.config = config
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
        batch, width = ops.shape(ids)
        lengths = ops.sum(ops.cast(memory_bias[:, 0] >= 0, "int32"), axis=1)  # of the prompts
        # Rows that have finished may stay in the batch beyond the end of the context.
        start = ops.minimum(lengths + index, self.config.max_length - 1)  # (B,)
        # All hypotheses of a row are at the same position, and are embedded as rows of one token.
        starts = ops.reshape(ops.tile(ops.expand_dims(start, 1), (1, width)), (-1,))
        x = self.shared["embed"](ops.reshape(ids, (-1, 1)), start=starts)

        prompt = ops.arange(ops.shape(memory_bias)[2], dtype="int32")
        prompt = ops.tile(ops.expand_dims(prompt, 0), (batch, 1))  # (B, S)
        slots = ops.arange(ops.shape(caches[0][0])[2], dtype="int32") // width
        written = ops.expand_dims(lengths, 1) + slots  # (B, slots)
        own = bias_of(visible) + ops.zeros((batch, 1, 1), "float32")  # (B, K, slots)
        shared = memory_bias + ops.zeros((1, width, 1), "float32")  # (B, K, S)
        states, caches = self.shared["decoder"](
            ops.reshape(x, (-1, width, x.shape[-1])),
            attention_bias=ops.expand_dims(ops.concatenate([shared, own], axis=2), 1),
            caches=caches,
            cache_index=index * width,
            prefixes=memory_caches,
            query_positions=ops.expand_dims(start, 1),
            key_positions=ops.concatenate([prompt, written], axis=1),
        )
        return _logits(self.shared, states, self.output_kernel), caches

    def compute_output_shape(self, *shapes: Any) -> Any:
        """Return the shapes of the outputs; see `shapes_of`."""
        return shapes_of(self.compute_output_spec, *shapes)

    def compute_output_spec(
        self, ids: Ids, index: Tensor, caches: Cache, *_: Any
    ) -> tuple[keras.KerasTensor, Cache]:
        """Return the specifications of the outputs without running the decoder."""
        return step_spec(ids, self.config.vocabulary_size, caches, self.compute_dtype)
