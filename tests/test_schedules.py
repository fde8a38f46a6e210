"""Tests of keras_transformer.training.schedules."""

import keras
import numpy as np
import pytest
from oracles import assert_close

from keras_transformer.training import InverseSquareRoot, paper_adam
from keras_transformer.training.schedules import LinearDecay


@pytest.mark.parametrize(
    ("d_model", "step", "rate"),
    [
        (512, 1, 1.747e-7),
        (512, 2000, 3.494e-4),
        (512, 4000, 6.988e-4),
        (512, 16000, 3.494e-4),
        (768, 4000, 5.705e-4),
    ],
)
def test_points_of_the_schedule_of_the_paper(d_model, step, rate):  # T06
    assert float(InverseSquareRoot.noam(d_model)(step)) == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize("step", [1, 7, 9, 10, 11, 40, 1000])
def test_schedule_of_the_paper_is_its_formula(step):  # T06
    expected = 2 * 64**-0.5 * min(step**-0.5, step * 10**-1.5)
    schedule = InverseSquareRoot.noam(64, warmup_steps=10, factor=2)
    assert float(schedule(step)) == pytest.approx(expected, rel=1e-6)


def test_rate_rises_to_the_peak_and_falls_with_the_root():  # T06
    schedule = InverseSquareRoot(0.5, 4)
    rates = [float(schedule(step)) for step in (1, 2, 3, 4, 16, 64)]
    assert_close(rates, [0.125, 0.25, 0.375, 0.5, 0.25, 0.125], 1e-7)


def test_first_update_is_not_wasted():  # T06: Keras counts from 0
    schedule = InverseSquareRoot(0.5, 4)
    assert float(schedule(0)) == float(schedule(1)) == 0.125


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4), "peak must be positive, got 0"),
        ((float("nan"), 4), "peak must be positive, got nan"),
        ((0.5, 0), "warmup_steps must be at least 1, got 0"),
    ],
)
def test_value_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        InverseSquareRoot(*arguments)


def test_linear_decay_rises_to_the_peak_and_falls_to_nothing():
    schedule = LinearDecay(0.5, 4, 14)
    rates = [float(schedule(step)) for step in (0, 1, 2, 4, 9, 13, 14, 20)]
    assert_close(rates, [0.125, 0.125, 0.25, 0.5, 0.25, 0.05, 0, 0], 1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4, 14), "peak must be positive, got 0"),
        ((0.5, 0, 14), "got warmup_steps=0 and steps=14"),
        ((0.5, 14, 14), "got warmup_steps=14 and steps=14"),
    ],
)
def test_linear_decay_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LinearDecay(*arguments)


def test_config_gives_back_linear_decay():
    schedule = LinearDecay(0.5, 4, 14)
    data = keras.saving.serialize_keras_object(schedule)
    again = keras.saving.deserialize_keras_object(data)
    assert type(again) is LinearDecay
    assert (
        again.get_config()
        == schedule.get_config()
        == {
            "peak": 0.5,
            "warmup_steps": 4,
            "steps": 14,
        }
    )


def test_config_gives_back_the_schedule_inside_the_optimizer():
    optimizer = paper_adam(InverseSquareRoot.noam(512), global_clipnorm=1.0)
    again = type(optimizer).from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    schedule = keras.saving.deserialize_keras_object(again.get_config()["learning_rate"])
    assert type(schedule) is InverseSquareRoot
    assert float(schedule(16000)) == pytest.approx(3.494e-4, rel=1e-3)


def test_optimizer_follows_the_schedule():
    optimizer, variable = paper_adam(InverseSquareRoot(0.5, 4)), keras.Variable(np.zeros(1))
    rates = []
    for _ in range(5):
        rates.append(float(optimizer.learning_rate))
        optimizer.apply([np.ones(1, "float32")], [variable])
    assert_close(rates, [0.125, 0.125, 0.25, 0.375, 0.5], 1e-7)


def test_adam_has_the_values_of_the_paper():  # T04
    config = paper_adam(0.1).get_config()
    assert (config["beta_1"], config["beta_2"], config["epsilon"]) == (0.9, 0.98, 1e-9)


def test_adam_by_hand():  # T04
    optimizer, variable = paper_adam(0.1), keras.Variable(np.ones(1))
    weight, mean, square = 1.0, 0.0, 0.0
    for t, gradient in enumerate([0.5, -2.0, 1.0], start=1):
        optimizer.apply([np.array([gradient], "float32")], [variable])
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.98 * square + 0.02 * gradient**2
        weight -= 0.1 * (mean / (1 - 0.9**t)) / ((square / (1 - 0.98**t)) ** 0.5 + 1e-9)
        assert float(variable[0]) == pytest.approx(weight, abs=1e-5)


@pytest.mark.parametrize(
    ("gradients", "clipped"),
    [
        ([[3.0], [4.0]], [[0.6], [0.8]]),  # the direction stays
        ([[0.3], [0.4]], [[0.3], [0.4]]),
        ([[0.0], [0.0]], [[0.0], [0.0]]),
    ],
)
def test_gradients_are_clipped_by_their_norm_together(gradients, clipped):  # T10
    optimizer = paper_adam(0.1, global_clipnorm=1.0)
    variables = [keras.Variable(np.zeros(1)) for _ in gradients]
    optimizer.apply([np.array(g, "float32") for g in gradients], variables)
    means = [v.numpy() for v in optimizer.variables if v.path.endswith("momentum")]
    assert_close(means, 0.1 * np.array(clipped))
    assert all(np.isfinite(v.numpy()).all() for v in variables)
