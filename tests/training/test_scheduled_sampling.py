"""Tests of keras_transformer.training.scheduled_sampling."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_families import leave_out_decoding
from oracles import assert_close, largest_difference, shake

from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.training.losses import CrossEntropy
from keras_transformer.training.scheduled_sampling import ScheduledSampling

SOURCE = np.array([[5, 6, 7, 3], [8, 9, 3, 0], [4, 3, 0, 0]], "int32")
TARGET = np.array([[2, 5, 10, 6], [2, 9, 0, 0], [2, 7, 8, 0]], "int32")
LABELS = np.array([[5, 10, 6, 3], [9, 3, 0, 0], [7, 8, 3, 0]], "int32")
INPUTS = {"source_ids": SOURCE, "target_ids": TARGET}


@pytest.fixture(scope="module", autouse=True)
def _no_decoding():
    """Leave out the graphs for decoding, which training does not use."""
    with pytest.MonkeyPatch.context() as patch:
        leave_out_decoding(patch)
        yield


def made(dropout=0.5):
    """A model that predicts something else at every position; its dropout must not act."""
    keras.utils.set_random_seed(2)
    model = Transformer(
        TransformerConfig(11, 1, 2, 8, 16, dropout=dropout, embedding_dropout=dropout)
    )
    shake(model, np.random.default_rng(2), 0.7)
    model.compile(keras.optimizers.SGD(0.5), loss=CrossEntropy())
    return model


def mixture(sampling, model, inputs=INPUTS):
    return np.array(sampling(model, {k: tf.constant(v) for k, v in inputs.items()})["target_ids"])


def own_predictions(model, decoder_input):
    """What the model would have written, as the decoder's next input; the long way."""
    logits = np.array(model({**INPUTS, "target_ids": decoder_input}, training=False))
    expected = TARGET.copy()
    for row, col in zip(*np.nonzero(TARGET), strict=True):
        if col:
            expected[row, col] = np.argmax(logits[row, col - 1])
    return expected


@pytest.mark.parametrize(
    ("share", "steps", "points"),
    [
        (0.2, 10, {0: 1.0, 5: 0.6, 10: 0.2, 11: 0.2, 1000: 0.2}),
        (0.0, 4, {0: 1.0, 1: 0.75, 3: 0.25, 4: 0.0}),
        (1.0, 7, {0: 1.0, 3: 1.0, 9: 1.0}),
        (0.3, 0, {0: 0.3, 9: 0.3}),
    ],
)
def test_share_of_true_tokens_falls_linearly(share, steps, points):  # T03
    sampling = ScheduledSampling(share, steps)
    for step, expected in points.items():
        assert float(sampling.share_at(tf.constant(step, tf.int64))) == pytest.approx(expected)


def test_a_share_of_one_is_teacher_forcing():
    np.testing.assert_array_equal(mixture(ScheduledSampling(1.0), made()), TARGET)


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_a_share_of_zero_is_what_the_model_predicts(passes):  # T03
    model = made()
    expected = TARGET
    for _ in range(passes):
        expected = own_predictions(model, expected)
    np.testing.assert_array_equal(mixture(ScheduledSampling(0.0, passes=passes), model), expected)
    assert np.mean(expected != TARGET) > 0.2


def test_begin_and_padding_stay_and_so_does_the_source():
    model = made()
    inputs = {k: tf.constant(v) for k, v in INPUTS.items()}
    mixed = ScheduledSampling(0.0)(model, inputs)
    assert mixed["source_ids"] is inputs["source_ids"]
    target = np.array(mixed["target_ids"])
    assert mixed["target_ids"].dtype == inputs["target_ids"].dtype
    np.testing.assert_array_equal(target[:, 0], 2)
    np.testing.assert_array_equal(target[TARGET == 0], 0)


def test_the_same_batch_at_the_same_step_is_always_treated_the_same():
    model, sampling = made(), ScheduledSampling(0.5)
    inputs = {k: np.repeat(v, 20, axis=0) for k, v in INPUTS.items()}
    first = mixture(sampling, model, inputs)
    np.testing.assert_array_equal(mixture(sampling, model, inputs), first)
    other = {**inputs, "source_ids": inputs["source_ids"] + 1}
    # Compared by which tokens were kept, for another source has other predictions.
    kept = first == inputs["target_ids"]
    assert np.any((mixture(sampling, model, other) == inputs["target_ids"]) & ~kept)
    model.optimizer.iterations.assign_add(1)
    assert np.any(mixture(sampling, model, inputs) != first)


def test_the_share_is_that_of_the_tokens_replaced():
    model = made()
    inputs = {k: np.repeat(v, 200, axis=0) for k, v in INPUTS.items()}
    all_of_them = mixture(ScheduledSampling(0.0), model, inputs) != inputs["target_ids"]
    some = mixture(ScheduledSampling(0.3), model, inputs) != inputs["target_ids"]
    assert np.sum(some) / np.sum(all_of_them) == pytest.approx(0.7, abs=0.06)
    assert not np.any(some & ~all_of_them)


def one_fit(model, steps=1):
    data = tf.data.Dataset.from_tensors((INPUTS, LABELS)).repeat()
    model.fit(data, steps_per_epoch=steps, verbose=0, shuffle=False)
    return np.concatenate([w.numpy().ravel() for w in model.trainable_variables])


def compiled(sampling, accumulate=1):
    model = made(dropout=0.0)
    model.compile(
        keras.optimizers.SGD(0.5),
        loss=CrossEntropy(),
        prepare_inputs=sampling,
        accumulate=accumulate,
    )
    return model


@pytest.fixture(scope="module")
def forced():
    """The weights after one step of teacher forcing, and after three."""
    model = compiled(None)
    return [one_fit(model, steps) for steps in (1, 2)]


def test_fit_trains_on_the_mixture_and_no_gradient_flows_through_the_predictions(forced):  # T03
    model = made(dropout=0.0)
    with tf.GradientTape() as tape:
        inputs = {**INPUTS, "target_ids": own_predictions(model, TARGET)}
        loss = CrossEntropy()(LABELS, model(inputs, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    expected = np.concatenate(
        [
            (v - 0.5 * tf.convert_to_tensor(g)).numpy().ravel()
            for v, g in zip(model.trainable_variables, gradients, strict=True)
        ]
    )
    for accumulate in (1, 3):  # free running has no chance in it
        assert_close(one_fit(compiled(ScheduledSampling(0.0), accumulate)), expected, 1e-5)
    assert largest_difference(forced[0], expected) > 1e-3


def test_fit_follows_the_schedule(forced):
    model = compiled(ScheduledSampling(0.0, steps=2))
    np.testing.assert_array_equal(forced[0], one_fit(model))  # the share is 1 at the first step
    assert largest_difference(forced[1], one_fit(model, 2)) > 1e-3


def test_it_is_saved_with_the_model(reload):
    model = made(dropout=0.0)  # a saved model begins dropout anew
    sampling = ScheduledSampling(0.25, 10, 2)
    model.compile(keras.optimizers.SGD(0.5), loss=CrossEntropy(), prepare_inputs=sampling)
    one_fit(model)
    loaded = reload(model)
    assert type(loaded.prepare_inputs) is ScheduledSampling
    assert loaded.prepare_inputs.get_config() == {"share": 0.25, "steps": 10, "passes": 2}
    np.testing.assert_array_equal(one_fit(model, 3), one_fit(loaded, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-0.1,), r"share must be in \[0, 1\], got -0.1"),
        ((1.1,), r"share must be in \[0, 1\], got 1.1"),
        ((0.5, -1), "got steps=-1 and passes=1"),
        ((0.5, 1, 0), "got steps=1 and passes=0"),
    ],
)
def test_values_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ScheduledSampling(*arguments)
