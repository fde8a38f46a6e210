"""Heads: what an encoder such as BERT is used for.

Each model is the graph of an encoder with a few layers on top, and takes the inputs of `Bert`.

Shapes: B batch, S length, D width, V vocabulary, C labels, P masked places.

Reference: Devlin et al. 2019, section 3 and figure 4; Reimers & Gurevych 2019 for sentences.
"""

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import keras
from keras import ops

from keras_transformer.errors import InputError, suggestion
from keras_transformer.layers import Dropout, Linear, OutputBias
from keras_transformer.layers.activations import get_activation
from keras_transformer.layers.layer import Layer
from keras_transformer.layers.layer_mix import LayerMix
from keras_transformer.layers.masks import LOWEST
from keras_transformer.layers.norms import make_norm
from keras_transformer.models.bert import BertConfig, EncoderGraph
from keras_transformer.models.families import make_encoder_graph
from keras_transformer.models.model import ConfiguredModel
from keras_transformer.models.pooling import PoolTokens, unit_length
from keras_transformer.typing import Config, DType, Hidden, Shape, Tensor, Tensors

POOLINGS = FIRST, MEAN, MIX = ("first", "mean", "mix")
NORMALIZE = "normalize"  # a step of a sentence encoder
DENSE = {"width", "activation", "use_bias"}  # fields of another one


class EncoderHead(ConfiguredModel):
    """An encoder's graph with a head; subclasses write `head`.

    Args:
        config: A `BertConfig`, or another encoder's, or its fields as a dict; or a model that has
            an encoder: `Bert`, `Roberta`, `Electra` or another head. The new model then begins with
            a copy of its encoder's weights, and has its dtype if no other is given. The head, and
            what that model lacks of the encoder, such as the pooler, is new.
        **kwargs: Settings of the head, `name`, `dtype` and `trainable`.
    """

    config_class = BertConfig
    settings: tuple[str, ...] = ()  # names of the constructor's arguments beside the configuration

    def __init__(self, config: Any, **kwargs: Any) -> None:
        given = {name: kwargs.pop(name) for name in self.settings if name in kwargs}
        dtype = kwargs.pop("dtype", None)
        source = None
        if isinstance(config, ConfiguredModel) and isinstance(config.config, BertConfig):
            source, config = config, config.config
            dtype = dtype or source.dtype_policy
        config = self.make_config(config)
        graph = make_encoder_graph(config, dtype, with_layers=given.get("pooling") == MIX)
        inputs, outputs = self.head(graph, dtype, **given)
        super().__init__(config, inputs, outputs, graph.dtype_policy, **kwargs)
        self.given = given
        if source is not None:
            graph.begin_with(source)

    # Of graph, dtype and settings: inputs and outputs of the model.
    head: Callable[..., tuple[Any, ...]]

    def get_config(self) -> Config:
        """Return the configuration as plain values."""
        return {**super().get_config(), **self.given}


def _check_count(num_labels: Any) -> None:
    if isinstance(num_labels, bool) or not isinstance(num_labels, Integral):
        raise InputError(
            f"num_labels must be a whole number, the number of labels, got {num_labels!r}."
        )
    if num_labels < 1:
        raise InputError(f"num_labels must be at least 1, got {num_labels}.")


@keras.saving.register_keras_serializable("keras_transformer")
class SequenceClassifier(EncoderHead):
    """A text, or a pair of texts, to one of C labels.

    Args:
        config: A `BertConfig`, or another encoder's, or its fields as a dict; or a model, with
            whose encoder the new one begins; see `EncoderHead`.
        num_labels: Number of labels C; 1 for a score or another number.
        pooling: "first": the vector of [CLS], through the pooler if there is one; "mean": the mean
            of all real tokens, the better start for an encoder that was trained on it; "mix": the
            mean over tokens of a mix of all layers, for an encoder that stays as it is.
        **kwargs: `name`, `dtype` (a policy such as "mixed_bfloat16") and `trainable`.

    Call arguments:
        inputs: As for `Bert`.

    Returns:
        Logits `(B, C)`.

    Raises:
        InputError: If the arguments make no model.
    """

    settings = ("num_labels", "pooling")

    @staticmethod
    def head(
        graph: EncoderGraph, dtype: DType, num_labels: Any = None, pooling: Any = "first"
    ) -> tuple[Tensors, Tensor]:
        """Return inputs and outputs of the model."""
        _check_count(num_labels)
        if pooling not in POOLINGS:
            raise InputError(
                f"pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}."
                f"{suggestion(pooling, POOLINGS)}"
            )
        sequence = graph.outputs["sequence"]
        if pooling == MIX:
            sequence = LayerMix(dtype=dtype, name="layer_mix")(graph.layers)
        if pooling == FIRST:
            vector = graph.outputs.get("pooled", sequence[:, 0])
        else:
            vector = PoolTokens(MEAN, dtype=dtype, name="mean")(sequence, graph.mask)
        vector = Dropout(graph.config.dropout, dtype=dtype, name="head_dropout")(vector)
        return graph.inputs, Linear(num_labels, dtype=dtype, name="logits")(vector)


@keras.saving.register_keras_serializable("keras_transformer")
class TokenClassifier(EncoderHead):
    """A label for each token, such as its part of speech or the kind of name it belongs to.

    Args:
        config: A `BertConfig`, or another encoder's, or its fields as a dict; or a model, with
            whose encoder the new one begins; see `EncoderHead`.
        num_labels: Number of labels C.
        **kwargs: `name`, `dtype` (a policy such as "mixed_bfloat16") and `trainable`.

    Call arguments:
        inputs: As for `Bert`.

    Returns:
        Logits `(B, S, C)`.

    Raises:
        InputError: If the arguments make no model.
    """

    settings = ("num_labels",)

    @staticmethod
    def head(graph: EncoderGraph, dtype: DType, num_labels: Any = None) -> tuple[Tensors, Tensor]:
        """Return inputs and outputs of the model."""
        _check_count(num_labels)
        x = Dropout(graph.config.dropout, dtype=dtype, name="head_dropout")(
            graph.outputs["sequence"]
        )
        return graph.inputs, Linear(num_labels, dtype=dtype, name="logits")(x)


@keras.saving.register_keras_serializable("keras_transformer")
class QuestionAnswerer(EncoderHead):
    """The beginning and the end of the answer to a question in a passage.

    Args:
        config: The configuration of an encoder with two segments, or its fields as a dict; or a
            model, with whose encoder the new one begins; see `EncoderHead`.
        **kwargs: `name`, `dtype` (a policy such as "mixed_bfloat16") and `trainable`.

    Call arguments:
        inputs: As for `Bert`; `token_ids` are [CLS] question [SEP] passage [SEP], and
            `segment_ids` are 1 in the passage and its [SEP].

    Returns:
        Logits `(B, 2, S)`, float32: of the first and the last token of the answer. Where the
        answer can't be, in the question and in padding, they are the lowest float32.
    """

    @staticmethod
    def head(graph: EncoderGraph, dtype: DType) -> tuple[Tensors, Tensor]:
        """Return inputs and outputs of the model."""
        logits = Linear(2, dtype=dtype, name="logits")(graph.outputs["sequence"])
        passage = graph.mask
        if "segment_ids" in graph.inputs:
            passage = ops.logical_and(passage, ops.equal(graph.inputs["segment_ids"], 1))
        logits = ops.transpose(ops.cast(logits, "float32"), (0, 2, 1))
        return graph.inputs, ops.where(ops.expand_dims(passage, 1), logits, LOWEST)


@keras.saving.register_keras_serializable("keras_transformer")
class SentenceEncoder(EncoderHead):
    """A text to one vector, so that texts of like meaning have vectors of like direction.

    Args:
        config: A `BertConfig`, or another encoder's, or its fields as a dict; or a model, with
            whose encoder the new one begins; see `EncoderHead`.
        pooling: How the vectors of tokens become one: a kind of `PoolTokens`, such as "mean" or
            "first", or a list of them, which are put side by side.
        normalize: Whether vectors have length 1 in the end, so that their product is the cosine.
        steps: What is done between the two, in order: "normalize", or a dict with `width` and
            maybe `activation` and `use_bias`, a dense layer.
        **kwargs: `name`, `dtype` (a policy such as "mixed_bfloat16") and `trainable`.

    Call arguments:
        inputs: As for `Bert`.

    Returns:
        Float32 tensor `(B, D)`, or of the width that `pooling` and `steps` make.

    Raises:
        InputError: If the arguments make no model.

    Reference: Reimers & Gurevych 2019, "Sentence-BERT".
    """

    settings = ("pooling", "normalize", "steps")

    @staticmethod
    def head(
        graph: EncoderGraph,
        dtype: DType,
        pooling: Any = "mean",
        normalize: bool = True,
        steps: Sequence[Any] = (),
    ) -> tuple[Tensors, Tensor]:
        """Return inputs and outputs of the model."""
        kinds = [pooling] if isinstance(pooling, str) else list(pooling)
        if not kinds:
            raise InputError("pooling names no way to pool; name at least one, such as 'mean'.")
        parts = [
            PoolTokens(kind, dtype=dtype, name=f"pool_{i}")(graph.outputs["sequence"], graph.mask)
            for i, kind in enumerate(kinds)
        ]
        vector = parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)
        for i, step in enumerate([*steps, NORMALIZE] if normalize else steps):
            vector = unit_length(vector) if step == NORMALIZE else _dense(vector, step, dtype, i)
        return graph.inputs, ops.cast(vector, "float32")


def _dense(vector: Tensor, step: Any, dtype: DType, number: int) -> Tensor:
    if not isinstance(step, dict) or "width" not in step or set(step) - DENSE:
        raise InputError(
            f"A step is {NORMALIZE!r}, or a dict with width and maybe activation and use_bias; "
            f"got {step!r}."
        )
    return Linear(
        step["width"],
        activation=get_activation(step.get("activation")),
        use_bias=step.get("use_bias", True),
        dtype=dtype,
        name=f"dense_{number}",
    )(vector)


@keras.saving.register_keras_serializable("keras_transformer")
class MaskedLanguageModel(EncoderHead):
    """Scores the vocabulary at the places of a text that were chosen to be predicted.

    The logits of all places would be by far the largest tensor of a training step, so those that
    count are picked first.

    Args:
        config: A `BertConfig`, or another encoder's, or its fields as a dict; or a model, with
            whose encoder the new one begins; see `EncoderHead`.
        **kwargs: `name`, `dtype` (a policy such as "mixed_bfloat16") and `trainable`.

    Call arguments:
        inputs: As for `Bert`, and `places`, integers `(B, P)`: positions in [0, S). What fills up
            short rows can be any.

    Returns:
        Logits `(B, P, V)` in the compute dtype.

    Reference: Devlin et al. 2019, section 3.1.
    """

    @staticmethod
    def head(graph: EncoderGraph, dtype: DType) -> tuple[Tensors, Tensor]:
        """Return inputs and outputs of the model."""
        config = graph.config
        places = keras.Input((None,), dtype="int32", name="places")
        width = config.embedding_width or config.d_model
        x = Pick(dtype=dtype, name="pick")(graph.outputs["sequence"], places)
        activation = get_activation(config.transform_activation or config.activation)
        x = Linear(width, activation=activation, dtype=dtype, name="transform")(x)
        x = make_norm(config.norm, config.layer_norm_epsilon, dtype, "transform_norm")(x)
        if config.tie_embeddings:
            logits = graph.table(x, reverse=True)
        else:
            logits = Linear(config.vocabulary_size, use_bias=False, dtype=dtype, name="logits")(x)
        logits = OutputBias(dtype=dtype, name="logits_bias")(logits)
        return {**graph.inputs, "places": places}, logits


@keras.saving.register_keras_serializable("keras_transformer")
class Pick(Layer):
    """Pick rows of every sequence by their places.

    Call arguments:
        sequence: Float tensor `(B, S, D)`.
        places: Integer tensor `(B, P)`.

    Returns:
        Float tensor `(B, P, D)`.
    """

    def call(self, sequence: Hidden, places: Tensor) -> Hidden:
        """Pick from all rows of the batch, laid end to end."""
        batch, length, width = ops.shape(sequence)
        first = ops.expand_dims(ops.arange(batch, dtype="int32") * length, 1)
        rows = ops.reshape(first + ops.cast(places, "int32"), (-1,))
        picked = ops.take(ops.reshape(sequence, (-1, width)), rows, axis=0)
        return ops.reshape(picked, (-1, ops.shape(places)[1], width))

    def compute_output_shape(self, sequence_shape: Shape, places_shape: Shape) -> Shape:
        """Return the shape of the output: a vector for each place."""
        return (*places_shape, sequence_shape[-1])

    def compute_output_spec(self, sequence: Hidden, places: Tensor) -> keras.KerasTensor:
        """Return the specification of the output for any lengths."""
        shape = self.compute_output_shape(sequence.shape, places.shape)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)
