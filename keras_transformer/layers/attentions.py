"""The kinds of attention that a configuration chooses by name."""

from keras_transformer.extensions import Table
from keras_transformer.layers.additive import AdditiveAttention
from keras_transformer.layers.attention import MultiHeadAttention

DOT_PRODUCT = "dot-product"
ATTENTIONS: Table[type[MultiHeadAttention]] = Table(
    "keras_transformer.attentions",
    "attention",
    MultiHeadAttention,
    {DOT_PRODUCT: MultiHeadAttention, "additive": AdditiveAttention},
)
"""The kinds of self-attention by the name that a configuration's `attention` has.

`register` adds one for this process; an entry point in the group `keras_transformer.attentions`
adds one for every process.
"""
