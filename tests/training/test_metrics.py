"""Tests of keras_transformer.training.metrics."""

import keras
import numpy as np
import oracles
import pytest
from keras import ops

from keras_transformer.training import Perplexity, TokenAccuracy, TokenCrossEntropy

METRICS = pytest.mark.parametrize(
    "make",
    [TokenAccuracy, Perplexity, lambda: TokenCrossEntropy(0.1)],
    ids=["accuracy", "perplexity", "cross-entropy"],
)
LABELS = np.array([[4, 1, 2], [3, 0, 0]])


def logits_for(rng, labels, size=5):
    return rng.normal(size=(*labels.shape, size), scale=3).astype("float32")


def value_of(metric, *batches):
    for labels, logits in batches:
        metric.update_state(labels, logits)
    return float(metric.result())


def test_accuracy_by_hand():  # E01
    logits = ops.one_hot(np.array([[4, 2, 2], [1, 0, 0]]), 5)  # right, wrong, right; wrong
    assert value_of(TokenAccuracy(), (LABELS, logits)) == 2 / 4  # not 4 / 6


def test_cross_entropy_is_smoothed_as_the_loss_is(rng):
    logits = logits_for(rng, LABELS)
    total, count = oracles.cross_entropy(LABELS, logits, 0.1)
    metric = TokenCrossEntropy(label_smoothing=0.1)
    assert value_of(metric, (LABELS, logits)) == pytest.approx(total / count, abs=1e-5)


def test_perplexity_is_exp_of_the_unsmoothed_mean(rng):  # E03
    logits = logits_for(rng, LABELS)
    total, count = oracles.cross_entropy(LABELS, logits)
    assert value_of(Perplexity(), (LABELS, logits)) == pytest.approx(
        np.exp(total / count), rel=1e-5
    )


@pytest.mark.parametrize("size", [2, 5, 1000])
def test_knowing_nothing_has_the_perplexity_of_the_vocabulary(size):  # E03
    logits = np.full((1, 3, size), 7.0)
    assert value_of(Perplexity(), (np.ones((1, 3), int), logits)) == pytest.approx(size, rel=1e-5)


@METRICS
def test_every_token_counts_once_however_batched(rng, make):  # E01, E03, L47
    logits = logits_for(rng, LABELS)
    together = value_of(make(), (LABELS, logits))
    longer = np.pad(LABELS[1:], [(0, 0), (0, 4)]), np.pad(logits[1:], [(0, 0), (0, 4), (0, 0)])
    apart = value_of(make(), (LABELS[:1], logits[:1]), longer)
    assert apart == pytest.approx(together, rel=1e-6)
    ones = [value_of(make(), (LABELS[i : i + 1], logits[i : i + 1])) for i in (0, 1)]
    assert abs(np.mean(ones) - together) > 0.01


@METRICS
def test_padding_has_no_influence(rng, make):  # E01
    logits, others = logits_for(rng, LABELS), logits_for(rng, LABELS)
    changed = np.where(LABELS[..., None] == 0, others, logits)
    assert value_of(make(), (LABELS, changed)) == value_of(make(), (LABELS, logits))
    visible = np.where(LABELS == 0, 1, LABELS)
    assert value_of(make(), (visible, changed)) != value_of(make(), (visible, logits))


@METRICS
def test_reset_forgets(rng, make):
    metric, empty = make(), value_of(make())
    assert value_of(metric, (LABELS, logits_for(rng, LABELS))) != empty
    metric.reset_state()
    assert value_of(metric) == empty
    assert empty == (1 if isinstance(metric, Perplexity) else 0)


@METRICS
def test_half_precision_logits_will_do(rng, make):
    logits = ops.cast(logits_for(rng, LABELS), "float16")
    expected = value_of(make(), (LABELS, ops.cast(logits, "float32")))
    assert value_of(make(), (LABELS, logits)) == pytest.approx(expected, rel=1e-6)


@METRICS
def test_config_gives_back_the_metric(make):
    metric = type(make())(name="other", ignore_id=3)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(again) is type(metric)
    assert again.get_config() == metric.get_config()
    assert (again.name, again.ignore_id) == ("other", 3)
    assert keras.saving.serialize_keras_object(make())["config"].get("label_smoothing") in (
        None,
        0.1,
    )
