"""Tests of keras_transformer.layers.caches."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from keras_transformer.layers.caches import write, writing_slices

WAYS = {"rows": contextlib.nullcontext, "slices": writing_slices}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tail", [(), (5,), (2, 3)])
@pytest.mark.parametrize(("count", "index"), [(1, 0), (1, 6), (3, 2), (3, 4), (7, 0)])
def test_a_part_is_replaced_and_the_rest_stays(rng, way, tail, count, index):
    x = rng.normal(size=(2, 3, 7, *tail)).astype("float32")
    new = rng.normal(size=(2, 3, count, *tail)).astype("float32")
    expected = x.copy()
    expected[:, :, index : index + count] = new
    with WAYS[way]():
        assert np.array_equal(write(x, new, index), expected)


@pytest.mark.parametrize("way", WAYS)
def test_in_a_graph_no_size_has_to_be_known(rng, way):
    spec = tf.TensorSpec([None, 3, None, 4])
    with WAYS[way]():
        function = tf.function(write).get_concrete_function(spec, spec, tf.TensorSpec([], "int32"))
    for batch, length in ((2, 7), (1, 3)):
        x = rng.normal(size=(batch, 3, length, 4)).astype("float32")
        new = rng.normal(size=(batch, 3, 2, 4)).astype("float32")
        expected = x.copy()
        expected[:, :, 1:3] = new
        got = function(*map(tf.constant, (x, new)), tf.constant(1))
        assert np.array_equal(got, expected)
    ops = {node.op for node in function.graph.as_graph_def().node}
    # A server that does not compile has no kernel for ops of XLA.
    assert any(op.startswith("Xla") for op in ops) is (way == "slices")


def test_slices_end_with_their_block():
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), writing_slices():
            1 / 0  # noqa: B018
        function = tf.function(lambda x: write(x, x[:, :, :1], 0))
        graph = function.get_concrete_function(tf.TensorSpec([1, 1, 2])).graph
        assert not any(node.op.startswith("Xla") for node in graph.as_graph_def().node)
