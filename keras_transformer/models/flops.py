"""How much arithmetic a Transformer takes: by formula, from its configuration alone.

Counted are matrix products, in multiply-adds: that of (m, k) and (k, n) takes m k n. A multiply-add
is two floating-point operations, a product and a sum. Softmax, norms, activations, biases and the
lookup of embeddings are left out; they are a few per cent.

Letters: S source length, T target length, D model width, V vocabulary, n any length. Lengths are
of one row; multiply by the number of rows.
"""

import dataclasses

from keras_transformer.models.config import TransformerConfig


@dataclasses.dataclass(frozen=True)
class MultiplyAdds:
    """The multiply-adds of a computation, by what they are for. It can be added and multiplied.

    Args:
        input_projections: Queries, keys and values.
        scores: Every query times every key.
        mixing: The weights times the values.
        output_projection: What the heads give, joined.
        feed_forward: Both maps of the feed-forward network.
        logits: The scores of the vocabulary.
    """

    input_projections: int = 0
    scores: int = 0
    mixing: int = 0
    output_projection: int = 0
    feed_forward: int = 0
    logits: int = 0

    @property
    def total(self) -> int:
        """The sum of all."""
        return sum(dataclasses.astuple(self))

    @property
    def flops(self) -> int:
        """The floating-point operations of all: two a multiply-add."""
        return 2 * self.total

    def __add__(self, other: "MultiplyAdds") -> "MultiplyAdds":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return MultiplyAdds(*(a + b for a, b in pairs))

    def __mul__(self, times: int) -> "MultiplyAdds":
        return MultiplyAdds(*(times * part for part in dataclasses.astuple(self)))

    __rmul__ = __mul__


def attention(d_model: int, queries: int, keys: int, projected: int | None = None) -> MultiplyAdds:
    """Count an attention of any number of heads, which share the width.

    Of a sequence to itself it is 4 n D^2 for the projections and 2 n^2 D for scores and mixing. The
    first doubles with n and the second quadruples; they are equal at n = 2 D.

    Args:
        d_model: Width D.
        queries: Number of queries.
        keys: Number of keys attended to.
        projected: How many keys and values are projected, if not all; a cache has the others.
    """
    projected = keys if projected is None else projected
    return MultiplyAdds(
        input_projections=(queries + 2 * projected) * d_model**2,
        scores=queries * keys * d_model,
        mixing=queries * keys * d_model,
        output_projection=queries * d_model**2,
    )


def feed_forward(config: TransformerConfig, length: int) -> MultiplyAdds:
    """Count a feed-forward network on `length` positions: 2 n D d_ff."""
    return MultiplyAdds(feed_forward=2 * length * config.d_model * config.d_ff)


def logits(config: TransformerConfig, length: int) -> MultiplyAdds:
    """Count the logits of `length` positions: n D V."""
    return MultiplyAdds(logits=length * config.d_model * config.vocabulary_size)


def encoder_block(config: TransformerConfig, source: int) -> MultiplyAdds:
    """Count an encoder block on S positions."""
    return attention(config.d_model, source, source) + feed_forward(config, source)


def decoder_block(config: TransformerConfig, source: int, target: int) -> MultiplyAdds:
    """Count a decoder block on T positions, the keys and values of S positions included."""
    itself = attention(config.d_model, target, target)
    cross = attention(config.d_model, target, source)
    return itself + cross + feed_forward(config, target)


def encoder_pass(config: TransformerConfig, source: int) -> MultiplyAdds:
    """Count the encoder on S positions."""
    return config.num_layers * encoder_block(config, source)


def forward_pass(config: TransformerConfig, source: int, target: int) -> MultiplyAdds:
    """Count the whole model on S and T positions, logits included."""
    decoder = config.num_layers * decoder_block(config, source, target)
    return encoder_pass(config, source) + decoder + logits(config, target)


def training_step(config: TransformerConfig, source: int, target: int) -> MultiplyAdds:
    """Count a training step of a row: three times the forward pass.

    A product has two factors, and the gradient of each is a product as large. With recomputation
    the blocks run forward once more.
    """
    forward = forward_pass(config, source, target)
    again = dataclasses.replace(forward, logits=0) * int(config.recompute)
    return 3 * forward + again


def encoding(config: TransformerConfig, source: int) -> MultiplyAdds:
    """Count what decoding does once: the encoder, and keys and values for every decoder block."""
    caches = MultiplyAdds(input_projections=2 * source * config.d_model**2)
    return encoder_pass(config, source) + config.num_layers * caches


def decoder_block_step(config: TransformerConfig, source: int, keys: int) -> MultiplyAdds:
    """Count a decoder block in a step of decoding; arguments as for `decoding_step`."""
    itself = attention(config.d_model, 1, keys, projected=1)
    cross = attention(config.d_model, 1, source, projected=0)
    return itself + cross + feed_forward(config, 1)


def decoding_step(config: TransformerConfig, source: int, keys: int) -> MultiplyAdds:
    """Count a step of greedy search with caches.

    Args:
        config: Configuration of the model.
        source: Source length S, whose keys and values are in a cache.
        keys: Target positions attended to, the newest included.
    """
    return config.num_layers * decoder_block_step(config, source, keys) + logits(config, 1)


def decoding(config: TransformerConfig, source: int, target: int) -> MultiplyAdds:
    """Count greedy search with caches from S tokens to T tokens, the encoder included."""
    steps = (decoding_step(config, source, keys) for keys in range(1, target + 1))
    return sum(steps, start=encoding(config, source))
