"""What tests of attentions share: the heads in NumPy, and every kind with what it needs."""

import numpy as np
import tensorflow as tf
from oracles import shake, softmax

from keras_transformer.layers import (
    AdditiveAttention,
    BucketedBias,
    Distances,
    GroupedQueryAttention,
    LinearBias,
    MultiHeadAttention,
    RotaryPositions,
    SharedProjectionAttention,
    ShawAttention,
    TransformerXLAttention,
)

# A function that makes the attention of 2 heads, width 8, and one that makes a stack's positions.
KINDS = {
    "additive": (lambda **k: AdditiveAttention(2, 8, **k), lambda: None),
    "shaw": (lambda **k: ShawAttention(2, 8, max_distance=2, **k), Distances),
    "transformer_xl": (lambda **k: TransformerXLAttention(2, 8, **k), Distances),
    "shared_qk": (lambda **k: SharedProjectionAttention(2, 8, share_qk=True, **k), lambda: None),
    "shared_kv": (lambda **k: SharedProjectionAttention(2, 8, share_kv=True, **k), lambda: None),
    "multi_query": (lambda **k: GroupedQueryAttention(2, 8, num_kv_heads=1, **k), lambda: None),
    "rotary": (lambda **k: MultiHeadAttention(2, 8, **k), lambda: RotaryPositions(4)),
    "rotary_multi_query": (
        lambda **k: GroupedQueryAttention(2, 8, num_kv_heads=1, **k),
        lambda: RotaryPositions(4),
    ),
    "rotary_shared": (
        lambda **k: SharedProjectionAttention(2, 8, share_qk=True, share_kv=True, **k),
        lambda: RotaryPositions(4),
    ),
    "buckets": (lambda **k: MultiHeadAttention(2, 8, **k), lambda: BucketedBias(2, 8, 16)),
    "buckets_multi_query": (
        lambda **k: GroupedQueryAttention(2, 8, num_kv_heads=1, **k),
        lambda: BucketedBias(2, 8, 16),
    ),
    "linear": (lambda **k: AdditiveAttention(2, 8, **k), lambda: LinearBias(2)),
}


def normal(rng, *shape):
    return rng.normal(size=shape).astype("float32")


def float64(weight):
    return weight.numpy().astype("float64")


def built(layer, rng, width=8):
    layer.build((None, None, width))
    shake(layer, rng)
    return layer


def projected(layer, x):
    """Return queries, keys and values of one sentence `(T, D)`, each `(H, T, d_k)`, in float64."""
    found = []
    for projection in (layer.query_projection, layer.key_projection, layer.value_projection):
        y = x.astype("float64") @ float64(projection.kernel)
        if projection.use_bias:
            y = y + float64(projection.bias)
        found.append(y.reshape(len(x), -1, layer.head_width).transpose(1, 0, 2))
    return found


def weights_by(score, queries, keys, mask=None):
    """Return the weights `(H, T, S)` of scores that `score(head, t, s)` gives, one at a time."""
    weights = np.zeros((queries.shape[0], queries.shape[1], keys.shape[1]))
    for head in range(weights.shape[0]):
        for t in range(weights.shape[1]):
            allowed = [s for s in range(weights.shape[2]) if mask is None or mask[t, s]]
            if allowed:
                scores = np.array([score(head, t, s) for s in allowed])
                weights[head, t, allowed] = softmax(scores)
    return weights


def joined(layer, heads):
    """Concatenate what heads give, `(H, T, d_k)`, and project it."""
    x = np.concatenate(list(heads), axis=-1) @ float64(layer.output_projection.kernel)
    return x + float64(layer.output_projection.bias) if layer.use_bias else x


def largest_tensor(function, *shapes):
    """Return how many numbers the largest tensor has that a function of floats makes on its way."""
    specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    graph = tf.function(function).get_concrete_function(*specs).graph
    outputs = [output for op in graph.get_operations() for output in op.outputs]
    return max(output.shape.num_elements() for output in outputs if output.shape.rank is not None)
