"""Relative positions that are a bias on the scores: how far a key is from the query.

Each is a layer that a stack shares between its blocks. It takes the positions of queries and of
keys and returns arguments of self-attention; `rotary.py` has one that turns queries and keys
instead, and `shaw.py` and `transformer_xl.py` have those that also look at what the query holds.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_transformer.errors import InputError
from keras_transformer.layers.layer import Layer
from keras_transformer.typing import Config, Shape, Tensor, Tensors


def distances(query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """Compute how far each key is behind its query.

    Args:
        query_positions: Integer tensor `(T,)` or `(B, T)`.
        key_positions: Integer tensor `(S,)` or `(B, S)`.

    Returns:
        Integer tensor `(1, T, S)` or `(B, T, S)`: query less key, negative for keys to come.
    """
    if len(query_positions.shape) == 1:
        query_positions = ops.expand_dims(query_positions, 0)
    if len(key_positions.shape) == 1:
        key_positions = ops.expand_dims(key_positions, 0)
    return ops.expand_dims(query_positions, 2) - ops.expand_dims(key_positions, 1)


def pairs_shape(query_positions: Shape, key_positions: Shape) -> Shape:
    """Return the shape of `distances` of positions of two shapes: `(1, T, S)` or `(B, T, S)`."""
    batches = [shape[0] for shape in (query_positions, key_positions) if len(shape) == 2]
    batch = next((size for size in batches if size != 1), 1)
    return batch, query_positions[-1], key_positions[-1]


def bias_shape(num_heads: int, query_positions: Shape, key_positions: Shape) -> dict[str, Shape]:
    """Return shapes of biases by the argument's name: `(1, H, T, S)` or `(B, H, T, S)`."""
    batch, queries, keys = pairs_shape(query_positions, key_positions)
    return {"attention_bias": (batch, num_heads, queries, keys)}


def check_buckets(num_buckets: int, max_distance: int, bidirectional: bool) -> None:
    """Make sure that distances have buckets that widen; see `BucketedBias`.

    Raises:
        InputError: If they don't.
    """
    least = 4 if bidirectional else 2
    if num_buckets < least:
        raise InputError(f"num_buckets must be at least {least}, got {num_buckets}.")
    exact = num_buckets // least  # distances with a bucket each, in one direction
    if max_distance <= exact:
        raise InputError(
            f"max_distance must be larger than {exact}, because with num_buckets={num_buckets} "
            f"each distance below {exact} has a bucket of its own; got {max_distance}."
        )


@keras.saving.register_keras_serializable("keras_transformer")
class BucketedBias(Layer):
    """A learned bias a head and a range of distances: T5's relative positions.

    Small distances have a bucket each, larger ones share buckets that widen with the logarithm, and
    all beyond `max_distance` share the last.

    Args:
        num_heads: Number of heads H.
        num_buckets: Number of biases a head.
        max_distance: The distance at which the last bucket begins; more than there are distances
            with a bucket each, which are half of the buckets, in each direction.
        bidirectional: Whether keys to come have buckets of their own, half of them, as in an
            encoder; otherwise they all count as distance 0.

    Call arguments:
        query_positions: Integer tensor `(T,)` or `(B, T)`.
        key_positions: Integer tensor `(S,)` or `(B, S)`.

    Returns:
        Dict with `attention_bias`, float32 `(1, H, T, S)` or `(B, H, T, S)`.

    Raises:
        InputError: If there are too few buckets, or `max_distance` is too small for them.

    Reference: Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 2.1.
    """

    def __init__(
        self,
        num_heads: int,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_buckets(num_buckets, max_distance, bidirectional)
        self.num_heads = num_heads
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bidirectional = bidirectional

    def build(
        self, query_positions_shape: Shape | None = None, key_positions_shape: Shape | None = None
    ) -> None:
        """Create the table `(buckets, H)`."""
        self.table = self.add_weight(
            shape=(self.num_buckets, self.num_heads),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="biases",
        )

    def call(self, query_positions: Tensor, key_positions: Tensor) -> Tensors:
        """Look up the biases of all pairs."""
        buckets = self.buckets(distances(query_positions, key_positions))  # (B, T, S)
        biases = ops.take(self.table, ops.reshape(buckets, (-1,)), axis=0)
        batch, queries, keys = ops.shape(buckets)
        biases = ops.reshape(biases, (batch, queries, keys, self.num_heads))
        return {"attention_bias": ops.cast(ops.transpose(biases, (0, 3, 1, 2)), "float32")}

    def buckets(self, distance: Tensor) -> Tensor:
        """Return the bucket of each distance, query less key, as int32."""
        count = self.num_buckets
        first = 0
        if self.bidirectional:
            count //= 2
            first = ops.where(distance < 0, count, 0)
            distance = ops.abs(distance)
        else:
            distance = ops.maximum(distance, 0)
        exact = count // 2
        ratio = ops.cast(ops.maximum(distance, 1), "float32") / exact
        share = ops.log(ratio) / float(np.log(self.max_distance / exact))
        wide = exact + ops.cast(share * (count - exact), "int32")
        wide = ops.minimum(wide, count - 1)
        return ops.cast(first, "int32") + ops.where(
            distance < exact, ops.cast(distance, "int32"), wide
        )

    def compute_output_shape(
        self, query_positions_shape: Shape, key_positions_shape: Shape
    ) -> dict[str, Shape]:
        """Return the shape of the output: a bias for each head and pair."""
        return bias_shape(self.num_heads, query_positions_shape, key_positions_shape)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "num_buckets": self.num_buckets,
            "max_distance": self.max_distance,
            "bidirectional": self.bidirectional,
        }


@keras.saving.register_keras_serializable("keras_transformer")
class LinearBias(Layer):
    """ALiBi: scores fall linearly with distance, in each head at another slope; no weights.

    Args:
        num_heads: Number of heads H. The slopes of a power of two are 2^(-8/H), 2^(-16/H), ...;
            other numbers take those of the power below and every second of the one above.

    Call arguments:
        query_positions: Integer tensor `(T,)` or `(B, T)`.
        key_positions: Integer tensor `(S,)` or `(B, S)`.

    Returns:
        Dict with `attention_bias`, float32 `(1, H, T, S)` or `(B, H, T, S)`: 0 or less, the same
        for keys as far behind as before.

    Reference: Press et al. 2022, "Train Short, Test Long".
    """

    def __init__(self, num_heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def build(
        self, query_positions_shape: Shape | None = None, key_positions_shape: Shape | None = None
    ) -> None:
        """Nothing has to be made."""

    def call(self, query_positions: Tensor, key_positions: Tensor) -> Tensors:
        """Multiply distances by slopes."""
        distance = ops.abs(distances(query_positions, key_positions))
        distance = ops.cast(ops.expand_dims(distance, 1), "float32")
        slopes = np.array(slopes_of(self.num_heads), "float32").reshape(1, -1, 1, 1)
        return {"attention_bias": -distance * ops.convert_to_tensor(slopes)}

    def compute_output_shape(
        self, query_positions_shape: Shape, key_positions_shape: Shape
    ) -> dict[str, Shape]:
        """Return the shape of the output: a bias for each head and pair."""
        return bias_shape(self.num_heads, query_positions_shape, key_positions_shape)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "num_heads": self.num_heads}


def slopes_of(num_heads: int) -> list[float]:
    """Return ALiBi's slopes, one a head."""
    below = 2 ** int(np.log2(num_heads))
    slopes = [2 ** (-8 * (i + 1) / below) for i in range(below)]
    between = [2 ** (-4 * (i + 1) / below) for i in range(0, 2 * below, 2)]
    return slopes + between[: num_heads - below]


@keras.saving.register_keras_serializable("keras_transformer")
class Distances(Layer):
    """The bare distances, for attention that learns what to make of them, as Shaw's does.

    Call arguments:
        query_positions: Integer tensor `(T,)` or `(B, T)`.
        key_positions: Integer tensor `(S,)` or `(B, S)`.

    Returns:
        Dict with `distance`, integers `(1, T, S)` or `(B, T, S)`: query less key.
    """

    def build(
        self, query_positions_shape: Shape | None = None, key_positions_shape: Shape | None = None
    ) -> None:
        """Nothing has to be made."""

    def call(self, query_positions: Tensor, key_positions: Tensor) -> Tensors:
        """Subtract."""
        return {"distance": distances(query_positions, key_positions)}

    def compute_output_shape(
        self, query_positions_shape: Shape, key_positions_shape: Shape
    ) -> dict[str, Shape]:
        """Return the shape of the output: a distance for each pair."""
        return {"distance": pairs_shape(query_positions_shape, key_positions_shape)}
