"""Tests of keras_transformer.training.losses."""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from keras import ops
from oracles import assert_close

from keras_transformer.training import CrossEntropy, token_cross_entropy

LABELS = np.array([[4, 1, 2], [3, 0, 0]])
SMOOTHING = pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])


def logits_for(rng, labels, size=5):
    return rng.normal(size=(*labels.shape, size), scale=3).astype("float32")


def test_loss_by_hand():  # T01
    logits = np.log([[[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]])
    total, count = token_cross_entropy(np.array([[1, 2]]), logits)
    assert float(total) == pytest.approx(np.log(4) - np.log(0.6), abs=1e-6)
    assert float(count) == 2
    assert float(CrossEntropy()(np.array([[1, 2]]), logits)) == pytest.approx(float(total) / 2)


@SMOOTHING
def test_loss_is_the_distance_from_soft_labels(rng, smoothing):  # T01, T02, W5
    logits = logits_for(rng, LABELS)
    total, count = token_cross_entropy(LABELS, logits, smoothing)
    assert_close([total, count], oracles.cross_entropy(LABELS, logits, smoothing), 1e-4)
    assert total.dtype == count.dtype == tf.float32


def test_smoothed_loss_agrees_with_keras(rng):  # T02
    labels, logits = rng.integers(1, 5, (3, 4)), logits_for(rng, np.zeros((3, 4)))
    theirs = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    expected = theirs(ops.one_hot(labels, 5), logits)
    assert float(CrossEntropy(0.1)(labels, logits)) == pytest.approx(float(expected), abs=1e-5)


@SMOOTHING
def test_soft_labels_are_a_distribution(rng, smoothing):  # T02, W5
    logits = tf.constant(logits_for(rng, LABELS))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        total, _ = token_cross_entropy(LABELS, logits, smoothing)
    gradient = np.array(tape.gradient(total, logits))  # softmax(logits) - soft labels
    soft = oracles.softmax(np.array(logits)) - gradient
    for label, row in zip(LABELS[0], soft[0], strict=True):
        assert row[label] == pytest.approx(1 - smoothing + smoothing / 5, abs=1e-5)
        assert_close(np.delete(row, label), np.full(4, smoothing / 5))
        assert row.sum() == pytest.approx(1, abs=1e-5)
    assert not np.any(gradient[1, 1:])  # nothing is learned from padding


@SMOOTHING
def test_padding_counts_for_nothing(rng, smoothing):  # T01
    logits = logits_for(rng, LABELS)
    more_logits = np.concatenate([logits, logits_for(rng, np.zeros((2, 4)))], axis=1)
    more_labels = np.pad(LABELS, [(0, 0), (0, 4)])
    loss = CrossEntropy(smoothing)
    assert float(loss(more_labels, more_logits)) == pytest.approx(float(loss(LABELS, logits)))
    visible = np.where(more_labels == 0, 1, more_labels)
    assert abs(float(loss(visible, more_logits)) - float(loss(LABELS, logits))) > 1e-3


def test_padding_can_have_another_label(rng):
    logits = logits_for(rng, LABELS)
    expected = oracles.cross_entropy(LABELS, logits, ignore_id=3)
    assert_close(token_cross_entropy(LABELS, logits, ignore_id=3), expected, 1e-4)
    loss = CrossEntropy(ignore_id=3)(LABELS, logits)
    assert float(loss) == pytest.approx(expected[0] / expected[1], abs=1e-4)


def test_sums_and_counts_of_parts_add_up(rng):
    logits = logits_for(rng, LABELS)
    whole = np.array(token_cross_entropy(LABELS, logits, 0.1))
    parts = [token_cross_entropy(LABELS[i : i + 1], logits[i : i + 1], 0.1) for i in (0, 1)]
    assert_close(np.sum(parts, axis=0), whole)
    means = [CrossEntropy(0.1)(LABELS[i : i + 1], logits[i : i + 1]) for i in (0, 1)]
    assert abs(np.mean(means) - whole[0] / whole[1]) > 0.01  # means do not


def test_batch_without_tokens_costs_nothing(rng):
    labels = np.zeros((2, 3), int)
    logits = tf.constant(logits_for(rng, labels))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = CrossEntropy(0.1)(labels, logits)
    assert float(loss) == 0
    assert not np.any(tape.gradient(loss, logits))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_loss_is_computed_in_float32(dtype):
    labels = np.full((1, 64), 1)
    logits = ops.full((1, 64, 4), 0.0, dtype=dtype)
    total, _ = token_cross_entropy(labels, logits)
    assert total.dtype == tf.float32
    assert float(total) == pytest.approx(64 * np.log(4), abs=1e-4)  # 16 bits are off by 0.02
    steep = ops.convert_to_tensor([[[0, 60000.0, 0, -60000]]], dtype=dtype)
    assert float(token_cross_entropy(np.array([[1]]), steep)[0]) == 0
    assert float(token_cross_entropy(np.array([[3]]), steep)[0]) == pytest.approx(120000, rel=0.01)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_smoothing_out_of_range_is_refused(smoothing):
    with pytest.raises(ValueError, match=rf"label_smoothing must be in \[0, 1\), got {smoothing}"):
        CrossEntropy(smoothing)


def test_config_gives_back_the_loss(rng):
    loss = CrossEntropy(0.2, ignore_id=3, name="loss")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is CrossEntropy
    assert again.get_config() == loss.get_config()
    logits = logits_for(rng, LABELS)
    assert float(again(LABELS, logits)) == float(loss(LABELS, logits))


# --- The gradient in closed form ------------------------------------------------------------------


def plain_loss(labels, logits, smoothing, ignore_id=0):
    """The formula as it is read, for automatic differentiation in float64."""
    probabilities = tf.nn.log_softmax(logits)
    soft = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    soft = (1 - smoothing) * soft + smoothing / logits.shape[-1]
    losses = -tf.reduce_sum(soft * probabilities, axis=-1)
    return tf.reduce_sum(tf.where(labels == ignore_id, tf.zeros_like(losses), losses))


def gradient_of(function, logits):
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        total = function(logits) * 1.7  # what comes from above is not always 1
    return tape.gradient(total, logits)


@SMOOTHING
@pytest.mark.parametrize("size", [1.0, 30.0, 1e4], ids=lambda x: f"logits of {x:g}")
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_gradient_is_that_of_automatic_differentiation(rng, smoothing, size, graph):  # T01, T02
    labels = rng.integers(0, 7, (3, 5))
    labels[0, 2:] = 0
    logits = rng.normal(size=(3, 5, 7), scale=size)
    if size == 1e4:
        logits = np.sign(logits) * 1e4  # several of the largest, with and without the label

    def closed(logits):
        return token_cross_entropy(labels, logits, smoothing)[0]

    if graph:
        closed = tf.function(closed)
    expected = gradient_of(lambda x: plain_loss(labels, x, smoothing), logits)
    found = gradient_of(closed, logits.astype("float32"))
    assert_close(found, expected, 2e-6 * max(1, size / 30))
    assert not np.any(np.array(found)[labels == 0])
    assert np.any(found)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gradient_has_the_precision_of_the_logits(rng, dtype):  # T12
    logits = tf.cast(logits_for(rng, LABELS), dtype)
    found = gradient_of(lambda x: token_cross_entropy(LABELS, x, 0.1)[0], logits)
    assert found.dtype == dtype
    exact = gradient_of(lambda x: plain_loss(LABELS, x, 0.1), tf.cast(logits, "float64"))
    np.testing.assert_array_equal(  # rounded once, at the end
        tf.cast(found, "float32"), tf.cast(tf.cast(tf.cast(exact, "float32"), dtype), "float32")
    )


def test_gradient_does_not_depend_on_the_scale_of_the_loss(rng):
    logits = logits_for(rng, LABELS)
    one = gradient_of(lambda x: token_cross_entropy(LABELS, x, 0.1)[0], logits)
    scaled = gradient_of(lambda x: token_cross_entropy(LABELS, x, 0.1)[0] * 2.0**15, logits)
    np.testing.assert_array_equal(scaled, one * 2.0**15)
