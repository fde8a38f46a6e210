"""Names of types that say what a tensor holds: its dtype and its shape.

To mypy each tensor is `Any`, because neither Keras nor TensorFlow says more. To a reader the names
say what the docstrings do. Importing this loads nothing.

Shapes: B batch, T target or query length, S source or key length, H heads, D model width,
d_k width of a head, V vocabulary, N blocks.
"""

from typing import Any, TypeAlias

# A tensor of the backend in use, or what becomes one, such as a NumPy array. Where its dtype and
# its shape are always the same, one of the names below says them.
Tensor: TypeAlias = Any

# Integer tensor `(B, S)` or `(B, T)`: tokens, padded.
Ids: TypeAlias = Any

# Integer tensor `(B, K, T)`: tokens of the K hypotheses of each source, padded.
Hypotheses: TypeAlias = Any

# Boolean tensor `(B, S)`, True at real tokens; or `(B, T, S)`, True = may attend.
Mask: TypeAlias = Any

# Float tensor that broadcasts to `(B, H, T, S)`, added to the scores of attention.
Bias: TypeAlias = Any

# Float tensor `(B, S, D)` or `(B, T, D)`: a vector for each token.
Hidden: TypeAlias = Any

# Float tensor `(B, T, V)`: a score for each piece of the vocabulary. `(B, K, V)` in a search.
Logits: TypeAlias = Any

# String tensor `(B,)` of TensorFlow.
Strings: TypeAlias = Any

# Ragged int32 tensor `(B, (S))` of TensorFlow: pieces of texts, without padding.
Ragged: TypeAlias = Any

# Tensors by name, such as the inputs or the outputs of a signature.
Tensors: TypeAlias = dict[str, Any]

# Tensors in dicts, lists and tuples, nested at will.
Nested: TypeAlias = Any

# Two float tensors `(B, H, S, d_k)`: what one block attends to.
KeysAndValues: TypeAlias = tuple[Any, Any]

# Keys and values for each of the N blocks.
Cache: TypeAlias = list[KeysAndValues]

# Two float32 tensors `(1, 1, T, d_k / 2)`, or `(B, ...)`: cosines and sines that `rotate` turns by.
Rotation: TypeAlias = tuple[Any, Any]

# The size of an axis: a number, or an integer scalar tensor inside a graph.
Size: TypeAlias = Any

# Sizes of axes; None, or a tensor inside a graph, where one is not known.
Shape: TypeAlias = tuple[Any, ...]

# A dtype or a policy of Keras, or its name, such as "mixed_bfloat16"; None for Keras's default.
DType: TypeAlias = Any

# What `get_config` returns and `from_config` takes: plain values by name.
Config: TypeAlias = dict[str, Any]
