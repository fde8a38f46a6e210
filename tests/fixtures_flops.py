"""Operations of a graph, counted by TensorFlow's profiler and by shapes, beside our formula."""

import math

import tensorflow as tf

from keras_transformer.models import TransformerConfig

# Every size is another one, so that no two can be mistaken for each other.
ROWS, SOURCE, TARGET = 3, 5, 7
CONFIG = TransformerConfig(50, num_layers=2, num_heads=2, d_model=8, d_ff=12)


def counted_by_tensorflow(function, *shapes):
    """The operations of the matrix products of a function of floats, by TensorFlow's profiler."""
    specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    return profiled(tf.function(function).get_concrete_function(*specs).graph)


def profiled(graph):
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder.float_operation()
    found = profiler.profile(
        graph, cmd="op", options=profiler.ProfileOptionBuilder(options).with_empty_output().build()
    )
    counts = {}
    while found.children:  # every kind of op is the child of the one before
        found = found.children[0]
        counts[found.name] = found.float_ops
    return sum(count for name, count in counts.items() if "MatMul" in name)


def counted_by_shapes(graph):
    """The same from shapes: TensorFlow's profiler takes no account of transposed factors."""
    total = 0
    for op in graph.get_operations():
        if "MatMul" in op.type:
            name = "transpose_a" if op.type == "MatMul" else "adj_x"
            inner = op.inputs[0].shape[-2 if op.get_attr(name) else -1]
            total += 2 * inner * math.prod(op.outputs[0].shape)
    return total


def ids(length):
    return tf.TensorSpec((ROWS, length), tf.int32)
