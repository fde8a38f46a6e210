"""How many parameters a model has: by formula, from its configuration alone.

Letters: V vocabulary, D model width, H heads, d_k width of a head, G heads of keys and values, d_ff
width inside the feed-forward network.

With d_k = D / H the projections of an attention are four matrices of D x D, whatever H is: the
number of heads does not count. What does are V, D, d_ff, the number of layers, and the length if
positions are learned.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from keras_transformer.errors import InputError
from keras_transformer.layers import ATTENTIONS
from keras_transformer.models.bert import BertConfig
from keras_transformer.models.config import StackConfig, TransformerConfig
from keras_transformer.models.electra import ElectraConfig
from keras_transformer.models.vision_transformer import VisionTransformerConfig

NORM_VECTORS = {"layer": 2, "rms": 1, "batch": 4}  # gain and offset; mean and variance of batches


@dataclasses.dataclass(frozen=True)
class Parameters:
    """The number of parameters of a model, by what they are for. It can be added and multiplied.

    What training does not change is counted too, such as the means of batch norm.

    Args:
        embeddings: Tables of tokens and of segments, and what widens them; of an image, the
            projection of patches and the class token.
        positions: Learned positions, absolute and relative.
        attention: Queries, keys, values and the output of the heads.
        feed_forward: The maps of the feed-forward networks.
        norms: Gains and offsets.
        head: What comes after the last block: pooler, logits that are not tied, their bias.
    """

    embeddings: int = 0
    positions: int = 0
    attention: int = 0
    feed_forward: int = 0
    norms: int = 0
    head: int = 0

    @property
    def total(self) -> int:
        """The sum of all; what `count_params` of the built model returns."""
        return sum(dataclasses.astuple(self))

    def __add__(self, other: "Parameters") -> "Parameters":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Parameters(*(a + b for a, b in pairs))

    def __mul__(self, times: int) -> "Parameters":
        return Parameters(*(times * part for part in dataclasses.astuple(self)))

    __rmul__ = __mul__


def count_parameters(config: StackConfig) -> Parameters:
    """Count the parameters of the model that a configuration makes.

    Args:
        config: The configuration of a model of any family, without the head of a task.

    Raises:
        InputError: If there is no formula for the family.
    """
    if config.family not in FORMULAS:
        raise InputError(
            f"There is no formula for the parameters of the family {config.family!r}; build the "
            "model and call its count_params()."
        )
    return FORMULAS[config.family](config)


def count_attention(config: StackConfig, cross: bool = False) -> Parameters:
    """Count one attention: 4 (D^2 + D) with D = H d_k, biases and no sharing of keys and values.

    Args:
        config: The configuration.
        cross: Whether it is cross-attention, which knows no relative positions and shares nothing.
    """
    inner = config.num_heads * config.key_width  # H d_k
    shared = inner if cross else (config.num_kv_heads or config.num_heads) * config.key_width
    count = _linear(config.d_model, inner, config.use_bias)
    count += 2 * _linear(config.d_model, shared, config.use_bias)
    count += _linear(inner, config.d_model, config.use_bias)
    positions = 0
    if not cross:
        count += ATTENTIONS[config.attention].own_weights(config.num_heads, config.key_width)
        if config.positions == "shaw":  # for keys and for values, shared by heads
            positions = 2 * (2 * config.max_distance + 1) * config.key_width
        elif config.positions == "transformer-xl":  # the projection of distances, u and v
            positions = config.d_model * inner + 2 * inner
    return Parameters(attention=count, positions=positions)


def count_feed_forward(config: StackConfig) -> Parameters:
    """Count one feed-forward network: 2 D d_ff + d_ff + D, and D d_ff + d_ff more with a gate."""
    count = _linear(config.d_model, config.d_ff, config.use_bias) * (2 if config.gated else 1)
    return Parameters(feed_forward=count + _linear(config.d_ff, config.d_model, config.use_bias))


def _linear(inputs: int, outputs: int, bias: bool = True) -> int:
    return inputs * outputs + (outputs if bias else 0)


def _norm(config: StackConfig, width: int | None = None) -> Parameters:
    return Parameters(norms=NORM_VECTORS[config.norm] * (width or config.d_model))


def _stack(config: StackConfig, num_layers: int, cross: bool = False) -> Parameters:
    """Count blocks, the norm that ends a pre-norm stack, and the table of buckets they share."""
    block = count_attention(config) + count_feed_forward(config) + 2 * _norm(config)
    if cross:
        block += count_attention(config, cross=True) + _norm(config)
    count = block * (1 if config.share_layers else num_layers)
    if config.norm_first:
        count += _norm(config)
    if config.positions == "buckets":
        count += Parameters(positions=config.num_buckets * config.num_heads)
    return count


def _between_table_and_blocks(config: StackConfig, width: int | None = None) -> Parameters:
    """Count learned positions and the norm of embeddings."""
    count = Parameters()
    if config.positions == "learned":
        count += Parameters(positions=config.max_length * (width or config.d_model))
    if config.norm_embeddings:
        count += _norm(config, width)
    return count


def _text(config: StackConfig) -> Parameters:
    """Count the table of tokens, and what logits have beside it."""
    table = config.vocabulary_size * config.d_model
    return Parameters(embeddings=table, head=0 if config.tie_embeddings else table)


def _encoder_decoder(config: TransformerConfig) -> Parameters:
    count = _text(config) + 2 * _between_table_and_blocks(config)
    if not config.tie_embeddings:  # source and target have a table each
        count += Parameters(embeddings=config.vocabulary_size * config.d_model)
    if config.logits_bias:
        count += Parameters(head=config.vocabulary_size)
    return (
        count
        + _stack(config, config.num_layers)
        + _stack(config, config.decoder_layers, cross=True)
    )


def _decoder_only(config: StackConfig) -> Parameters:
    return _text(config) + _between_table_and_blocks(config) + _stack(config, config.num_layers)


def _encoder_only(config: BertConfig) -> Parameters:
    width = config.embedding_width or config.d_model
    embeddings = (config.vocabulary_size + config.num_segments) * width
    if config.embedding_width:
        embeddings += _linear(width, config.d_model)
    head = 0
    if isinstance(config, ElectraConfig):  # a score a token, which needs no pooler
        head = _linear(config.d_model, config.d_model) + _linear(config.d_model, 1)
    elif config.pooler:
        head = _linear(config.d_model, config.d_model)
    return (
        Parameters(embeddings=embeddings, head=head)
        + _between_table_and_blocks(config, width)
        + _stack(config, config.num_layers)
    )


def _vision_transformer(config: VisionTransformerConfig) -> Parameters:
    pixels = config.patch_size**2 * config.channels
    count = Parameters(embeddings=_linear(pixels, config.d_model) + config.d_model)
    if config.positions == "learned":
        count += Parameters(positions=(config.num_patches + 1) * config.d_model)
    if config.num_classes:
        count += Parameters(head=_linear(config.d_model, config.num_classes))
    return count + _stack(config, config.num_layers)


# By family. One that another package adds may have weights that none of these counts.
FORMULAS: dict[str, Callable[[Any], Parameters]] = {
    **dict.fromkeys(("transformer", "t5", "bart"), _encoder_decoder),
    **dict.fromkeys(("bert", "roberta", "electra"), _encoder_only),
    "gpt": _decoder_only,
    "vit": _vision_transformer,
}
