"""Attention whose queries, keys or values share a projection: for experiments."""

from typing import Any

import keras

from keras_transformer.layers.attention import MultiHeadAttention
from keras_transformer.layers.rotary import rotate
from keras_transformer.typing import Config, Hidden, KeysAndValues, Rotation


@keras.saving.register_keras_serializable("keras_transformer")
class SharedProjectionAttention(MultiHeadAttention):
    """Multi-head attention that has one kernel less for each thing that is shared.

    With shared queries and keys, the scores of self-attention are symmetric: how well i matches j
    is how well j matches i. Where vectors are long and nearly orthogonal, each token then begins by
    attending to itself alone. With shared keys and values, what a token is found by is also what it
    says. Neither is the default.

    Args:
        num_heads: Number of heads H.
        d_model: Width D.
        share_qk: Whether the keys' projection is the queries'.
        share_kv: Whether the values' projection is the keys'.
        **kwargs: What else `MultiHeadAttention` takes.

    Call arguments, returns and masking: as for `MultiHeadAttention`.

    Reference: Kitaev et al. 2020, "Reformer", section 2, for shared queries and keys.
    """

    def __init__(
        self,
        num_heads: int,
        d_model: int,
        share_qk: bool = False,
        share_kv: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_heads, d_model, **kwargs)
        self.share_qk = share_qk
        self.share_kv = share_kv
        if share_qk:
            self.key_projection = self.query_projection
        if share_kv:
            self.value_projection = self.key_projection

    def keys_and_values(self, source: Hidden, rotation: Rotation | None = None) -> KeysAndValues:
        """Project `source` `(B, S, D)` to keys and values, each `(B, H, S, d_k)`."""
        if not self.share_kv:
            return super().keys_and_values(source, rotation)
        shared = self._split_heads(self.key_projection(source), self.num_heads)
        return shared if rotation is None else rotate(shared, rotation), shared

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "share_qk": self.share_qk, "share_kv": self.share_kv}
