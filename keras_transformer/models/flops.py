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


def attention(
    d_model: int,
    queries: int,
    keys: int,
    projected: int | None = None,
    *,
    inner: int | None = None,
    shared: int | None = None,
) -> MultiplyAdds:
    """Count an attention by dot products of any number of heads, which share a width.

    Of a sequence to itself it is 4 n D^2 for the projections and 2 n^2 D for scores and mixing. The
    first doubles with n and the second quadruples; they are equal at n = 2 D.

    Args:
        d_model: Width D.
        queries: Number of queries.
        keys: Number of keys attended to.
        projected: How many keys and values are projected, if not all; a cache has the others.
        inner: Width H d_k of all heads of queries, if it is not D.
        shared: Width G d_k of all heads of keys and values, if it is not that of the queries.
    """
    projected = keys if projected is None else projected
    inner = d_model if inner is None else inner
    shared = inner if shared is None else shared
    return MultiplyAdds(
        input_projections=(queries * inner + 2 * projected * shared) * d_model,
        scores=queries * keys * inner,
        mixing=queries * keys * inner,
        output_projection=queries * inner * d_model,
    )


def self_attention(
    config: TransformerConfig,
    queries: int,
    keys: int,
    projected: int | None = None,
) -> MultiplyAdds:
    """Count a block's attention to its own side, with what its kind of positions takes.

    Shaw's positions score every query against the 2 m + 1 vectors of distances, and sum weights
    over them; those of Transformer-XL project the 2 n - 1 distances that n keys can have, and score
    every query against them. A batch projects them once; here they are counted for each row, so
    that a batch of many takes a little less than its rows.

    Args:
        config: Configuration of the model.
        queries: Number of queries.
        keys: Number of keys attended to.
        projected: How many keys and values are projected, if not all.
    """
    inner = config.num_heads * config.key_width
    shared = (config.num_kv_heads or config.num_heads) * config.key_width
    count = attention(config.d_model, queries, keys, projected, inner=inner, shared=shared)
    more = MultiplyAdds()
    if config.positions == "shaw":
        vectors = queries * (2 * config.max_distance + 1) * inner
        more = MultiplyAdds(scores=vectors, mixing=vectors)
    elif config.positions == "transformer-xl":
        distances = 2 * keys - 1
        more = MultiplyAdds(
            input_projections=distances * config.d_model * inner,
            scores=queries * distances * inner,
        )
    return count + more


def cross_attention(
    config: TransformerConfig, queries: int, keys: int, projected: int | None = None
) -> MultiplyAdds:
    """Count a block's attention to the source: always all heads, and no relative positions."""
    inner = config.num_heads * config.key_width
    return attention(config.d_model, queries, keys, projected, inner=inner)


def feed_forward(config: TransformerConfig, length: int) -> MultiplyAdds:
    """Count a feed-forward network on `length` positions: 2 n D d_ff, or 3 n D d_ff with a gate."""
    maps = 3 if config.gated else 2
    return MultiplyAdds(feed_forward=maps * length * config.d_model * config.d_ff)


def logits(config: TransformerConfig, length: int) -> MultiplyAdds:
    """Count the logits of `length` positions: n D V."""
    return MultiplyAdds(logits=length * config.d_model * config.vocabulary_size)


def encoder_block(config: TransformerConfig, source: int) -> MultiplyAdds:
    """Count an encoder block on S positions."""
    return self_attention(config, source, source) + feed_forward(config, source)


def decoder_block(config: TransformerConfig, source: int, target: int) -> MultiplyAdds:
    """Count a decoder block on T positions, the keys and values of S positions included."""
    itself = self_attention(config, target, target)
    cross = cross_attention(config, target, source)
    return itself + cross + feed_forward(config, target)


def encoder_pass(config: TransformerConfig, source: int) -> MultiplyAdds:
    """Count the encoder on S positions."""
    return config.num_layers * encoder_block(config, source)


def forward_pass(config: TransformerConfig, source: int, target: int) -> MultiplyAdds:
    """Count the whole model on S and T positions, logits included."""
    decoder = config.decoder_layers * decoder_block(config, source, target)
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
    inner = config.num_heads * config.key_width
    caches = MultiplyAdds(input_projections=2 * source * config.d_model * inner)
    return encoder_pass(config, source) + config.decoder_layers * caches


def decoder_block_step(config: TransformerConfig, source: int, keys: int) -> MultiplyAdds:
    """Count a decoder block in a step of decoding; arguments as for `decoding_step`."""
    itself = self_attention(config, 1, keys, projected=1)
    cross = cross_attention(config, 1, source, projected=0)
    return itself + cross + feed_forward(config, 1)


def decoding_step(config: TransformerConfig, source: int, keys: int) -> MultiplyAdds:
    """Count a step of greedy search with caches.

    Args:
        config: Configuration of the model.
        source: Source length S, whose keys and values are in a cache.
        keys: Target positions attended to, the newest included.
    """
    return config.decoder_layers * decoder_block_step(config, source, keys) + logits(config, 1)


def decoding(config: TransformerConfig, source: int, target: int) -> MultiplyAdds:
    """Count greedy search with caches from S tokens to T tokens, the encoder included."""
    steps = (decoding_step(config, source, keys) for keys in range(1, target + 1))
    return sum(steps, start=encoding(config, source))
