"""Sampling: a draw from the distribution of the next token, as it is or without its tail.

Draws are computed from a seed, the source and the position, by integer arithmetic that is the same
on every backend and in LiteRT. So a row's sample does not depend on the rows beside it.

Shapes: B batch, K hypotheses of a source, S source length, V vocabulary.
"""

import numpy as np
from keras import ops

from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.decoding.tensors import top_k
from keras_transformer.typing import Ids, Logits, Tensor


def filtered_distribution(
    logits: Tensor, options: GenerationOptions
) -> tuple[Tensor, Tensor | None]:
    """Compute the distribution that is sampled from.

    Temperature comes first, then top-k, then top-p over what is left, then min-p.

    Args:
        logits: Float32 tensor `(..., V)`.
        options: `GenerationOptions` with a temperature above 0.

    Returns:
        Tuple of the probabilities `(..., C)`, which need not sum to 1, and the tokens `(..., C)`
        that they belong to, or None if these are all in order.
    """
    logits = logits / options.temperature
    tokens = None
    vocabulary = logits.shape[-1]
    if options.top_k or options.top_p < 1:
        logits, tokens = top_k(logits, min(options.top_k or vocabulary, vocabulary))
    # Not ops.softmax, which warns that to normalise one token alone (top_k=1) must be a mistake.
    powers = ops.exp(logits - ops.max(logits, axis=-1, keepdims=True))
    probabilities = powers / ops.sum(powers, axis=-1, keepdims=True)
    if options.top_p < 1:
        before = ops.cumsum(probabilities, axis=-1) - probabilities
        probabilities = ops.where(before < options.top_p, probabilities, 0.0)
    if options.min_p:
        least = options.min_p * ops.max(probabilities, axis=-1, keepdims=True)
        probabilities = ops.where(probabilities >= least, probabilities, 0.0)
    return probabilities, tokens


class Sampler:
    """Draws a token for every hypothesis.

    Args:
        options: `GenerationOptions` with a temperature above 0.
    """

    def __init__(self, options: GenerationOptions) -> None:
        self.options = options

    def __call__(self, logits: Logits, seeds: Tensor, index: Tensor) -> Tensor:
        """Draw: logits `(B, K, V)`, seeds `(B,)` and the position -> tokens `(B, K)`."""
        probabilities, tokens = filtered_distribution(logits, self.options)
        shares = ops.cumsum(probabilities, axis=-1)  # (B, K, C)
        hypotheses = ops.arange(logits.shape[1], dtype="int32")
        # The same hypothesis at another position, and another at the same, draw anew.
        number = index * logits.shape[1] + hypotheses + 1
        draws = uniform(ops.expand_dims(seeds, 1) + number * _GOLDEN)  # (B, K)
        mark = ops.expand_dims(draws, 2) * shares[:, :, -1:]
        rank = ops.sum(ops.cast(shares <= mark, "int32"), axis=-1)  # (B, K)
        if tokens is None:
            return rank
        count = tokens.shape[-1]
        chosen = ops.expand_dims(rank, 2) == ops.arange(count, dtype="int32")
        return ops.sum(ops.where(chosen, ops.cast(tokens, "int32"), 0), axis=-1)


def uniform(numbers: Tensor) -> Tensor:
    """Turn integers into numbers that look random.

    Args:
        numbers: Int32 tensor.

    Returns:
        Float32 tensor of the same shape, in [0, 1), in steps of 2^-23: fine enough that a draw
        times the sum of the probabilities stays below that sum.
    """
    bits = _shift(mix(mix(numbers)), 9)
    return ops.cast(bits, "float32") * 2.0**-23


def row_seeds(seed: Tensor, ids: Ids) -> Tensor:
    """Make a seed for each row from its tokens, whatever padding follows them.

    Args:
        seed: Integer, or int32 tensor `(B,)`.
        ids: Int32 tensor `(B, S)`, padded with 0.

    Returns:
        Int32 tensor `(B,)`.
    """
    positions = ops.arange(1, ops.shape(ids)[1] + 1, dtype="int32")
    # Every token at every position has a number of its own; padding's are left out.
    numbers = ops.where(ids != 0, mix(ids * _GOLDEN + positions), 0)
    return mix(ops.sum(numbers, axis=1) + seed)


def mix(x: Tensor) -> Tensor:
    """Spread every bit of int32 numbers over all bits (the finaliser of MurmurHash3)."""
    x = ops.bitwise_xor(x, _shift(x, 16))
    x = x * _FIRST
    x = ops.bitwise_xor(x, _shift(x, 13))
    x = x * _SECOND
    return ops.bitwise_xor(x, _shift(x, 16))


def _shift(x: Tensor, bits: int) -> Tensor:
    """Shift right, filling with zeros: int32 shifts fill with the sign, and LiteRT has no AND."""
    fill = ops.cast(ops.where(x < 0, 2 ** (32 - bits), 0), "int32")
    return ops.bitwise_right_shift(x, np.int32(bits)) + fill


def _int32(number: int) -> int:
    return int(np.array(number, dtype="uint32").astype("int32"))


_GOLDEN, _FIRST, _SECOND = map(_int32, (0x9E3779B9, 0x85EBCA6B, 0xC2B2AE35))
