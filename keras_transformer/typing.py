"""Names of types that say what a tensor holds: its dtype and its shape.

To mypy each tensor is `Any`, because neither Keras nor TensorFlow says more. To a reader the names
say what the docstrings do. Importing this loads nothing.

Shapes: B batch, T target or query length, S source or key length, H heads, D model width,
d_k width of a head, V vocabulary, N blocks.
"""

from typing import Any, TypeAlias

Tensor: TypeAlias = Any
"""A tensor of the backend in use, or what becomes one, such as a NumPy array.

Where its dtype and its shape are always the same, one of the names below says them.
"""

Ids: TypeAlias = Any
"""Integer tensor `(B, S)` or `(B, T)`: tokens, padded."""

Hypotheses: TypeAlias = Any
"""Integer tensor `(B, K, T)`: tokens of the K or N hypotheses of each source, padded."""

Mask: TypeAlias = Any
"""Boolean tensor `(B, S)`, True at real tokens; or `(B, T, S)`, True = may attend."""

Bias: TypeAlias = Any
"""Float tensor that broadcasts to `(B, H, T, S)`, added to the scores of attention."""

Hidden: TypeAlias = Any
"""Float tensor `(B, S, D)` or `(B, T, D)`: a vector for each token."""

Logits: TypeAlias = Any
"""Float tensor `(B, T, V)`: a score for each piece of the vocabulary. `(B, K, V)` in a search."""

Strings: TypeAlias = Any
"""String tensor `(B,)` of TensorFlow."""

Ragged: TypeAlias = Any
"""Ragged int32 tensor `(B, (S))` of TensorFlow: pieces of texts, without padding."""

Tensors: TypeAlias = dict[str, Any]
"""Tensors by name, such as the inputs or the outputs of a signature."""

Nested: TypeAlias = Any
"""Tensors in dicts, lists and tuples, nested at will."""

KeysAndValues: TypeAlias = tuple[Any, Any]
"""Two float tensors `(B, H, S, d_k)`: what one block attends to."""

Cache: TypeAlias = list[KeysAndValues]
"""Keys and values for each of the N blocks."""

Rotation: TypeAlias = tuple[Any, Any]
"""Two float32 tensors `(1, 1, T, d_k / 2)`, or `(B, ...)`: the cosines and sines for `rotate`."""

Size: TypeAlias = Any
"""The size of an axis: a number, or an integer scalar tensor inside a graph."""

Shape: TypeAlias = tuple[Any, ...]
"""Sizes of axes; None, or a tensor inside a graph, where one is not known."""

DType: TypeAlias = Any
"""A dtype or a policy of Keras, or its name, such as "mixed_bfloat16"; None for Keras's default."""

Config: TypeAlias = dict[str, Any]
"""The plain values, by name, that `get_config` returns and `from_config` takes."""
