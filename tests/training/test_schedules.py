"""Tests of keras_transformer.training.schedules."""

import math

import keras
import numpy as np
import pytest
from oracles import assert_close

from keras_transformer.training import (
    Constant,
    InverseSquareRoot,
    LinearDecay,
    OneCycle,
    WarmupCosine,
    paper_adam,
)

# Each with the step of its peak and its last step.
SCHEDULES = [
    (InverseSquareRoot(0.5, 4), 4, 1000),
    (Constant(0.5, 4), 4, 1000),
    (LinearDecay(0.5, 4, 14), 4, 14),
    (WarmupCosine(0.5, 4, 14, 0.1), 4, 14),
    (OneCycle(0.5, 20), 6, 20),
]
EACH = pytest.mark.parametrize(
    ("schedule", "top", "last"), SCHEDULES, ids=[type(s[0]).__name__ for s in SCHEDULES]
)


def rates(schedule, steps):
    return [float(schedule(step)) for step in steps]


# --- All schedules --------------------------------------------------------------------------------


@EACH
def test_rate_rises_to_the_peak_and_never_rises_again(schedule, top, last):  # T08
    values = np.array(rates(schedule, range(1, last + 20)))
    assert values[top - 1] == pytest.approx(0.5, rel=1e-6)
    assert (np.diff(values[:top]) > 0).all()
    assert (np.diff(values[top - 1 :]) <= 0).all()


@EACH
def test_first_update_is_not_wasted(schedule, top, last):  # T06: Keras counts from 0
    first, again = rates(schedule, [0, 1])
    assert 0 < first == again < 0.5


@EACH
def test_rate_is_finite_after_the_last_step(schedule, top, last):
    values = rates(schedule, [last, last + 1, 10**6, 10**9])
    assert np.isfinite(values).all()
    if not isinstance(schedule, InverseSquareRoot):  # it has no end value
        assert len(set(values)) == 1


@EACH
def test_step_may_be_an_integer_of_any_kind(schedule, top, last):
    for step in (3, np.int64(3), keras.ops.convert_to_tensor(3, "int32")):
        rate = schedule(step)
        assert keras.backend.standardize_dtype(rate.dtype) == "float32"
        assert float(rate) == float(schedule(3.0))


@EACH
def test_config_gives_back_the_schedule(schedule, top, last):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert type(again) is type(schedule)
    assert again.get_config() == schedule.get_config()
    assert rates(again, range(30)) == rates(schedule, range(30))


@EACH
def test_saved_model_brings_its_schedule_along(schedule, top, last, reload):
    model = keras.Sequential([keras.layers.Input([1]), keras.layers.Dense(1)])
    model.compile(paper_adam(schedule), "mse")
    model.fit(np.ones([3, 1]), np.ones([3, 1]), batch_size=1, verbose=0)
    loaded = reload(model)
    assert type(loaded.optimizer._learning_rate) is type(schedule)
    assert float(loaded.optimizer.learning_rate) == float(schedule(3))


@EACH
def test_optimizer_follows_the_schedule(schedule, top, last):
    optimizer, variable = paper_adam(schedule), keras.Variable(np.zeros(1))
    seen = []
    for _ in range(8):
        seen.append(float(optimizer.learning_rate))
        optimizer.apply([np.ones(1, "float32")], [variable])
    assert seen == rates(schedule, range(8))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InverseSquareRoot(0, 4), "peak must be positive, got 0"),
        (lambda: InverseSquareRoot(float("nan"), 4), "peak must be positive, got nan"),
        (lambda: InverseSquareRoot(0.5, 0), "warmup_steps must be at least 1, got 0"),
        (lambda: Constant(-1), "peak must be positive, got -1"),
        (lambda: Constant(0.5, 0), "warmup_steps must be at least 1, got 0"),
        (lambda: LinearDecay(0, 4, 14), "peak must be positive, got 0"),
        (lambda: LinearDecay(0.5, 0, 14), "got warmup_steps=0 and steps=14"),
        (lambda: LinearDecay(0.5, 14, 14), "got warmup_steps=14 and steps=14"),
        (lambda: WarmupCosine(0, 4, 14), "peak must be positive, got 0"),
        (lambda: WarmupCosine(0.5, 14, 14), "got warmup_steps=14 and steps=14"),
        (lambda: WarmupCosine(0.5, 4, 14, 1.1), r"end_fraction must be in \[0, 1\], got 1.1"),
        (lambda: OneCycle(0, 20), "peak must be positive, got 0"),
        (lambda: OneCycle(0.5, 20, 1.0), "got warmup_fraction=1.0 and steps=20"),
        (lambda: OneCycle(0.5, 2), "got warmup_fraction=0.3 and steps=2"),
        (lambda: OneCycle(0.5, 20, 0.3, 2), r"start_fraction must be in \[0, 1\], got 2"),
        (lambda: OneCycle(0.5, 20, 0.3, 0.1, 0.1), "got end_fraction=0.1 and start_fraction=0.1"),
        (lambda: OneCycle(0.5, 20, end_fraction=-1), "got end_fraction=-1"),
    ],
)
def test_value_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- Points computed by hand ----------------------------------------------------------------------


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


def test_inverse_square_root_by_hand():  # T06
    values = rates(InverseSquareRoot(0.5, 4), (0, 1, 2, 3, 4, 16, 64))
    assert_close(values, [0.125, 0.125, 0.25, 0.375, 0.5, 0.25, 0.125], 1e-7)


def test_warmup_is_linear_and_ends_at_the_peak():  # T07
    values = rates(Constant(0.5, 10), (1, 2, 5, 10, 11, 20, 10_000))
    assert_close(values, [0.05, 0.1, 0.25, 0.5, 0.5, 0.5, 0.5], 1e-7)
    assert rates(Constant(0.5), (0, 1, 2)) == [0.5, 0.5, 0.5]  # no warm-up


def test_linear_decay_by_hand():  # T07
    values = rates(LinearDecay(0.5, 4, 14), (0, 1, 2, 4, 9, 13, 14, 20))
    assert_close(values, [0.125, 0.125, 0.25, 0.5, 0.25, 0.05, 0, 0], 1e-7)


def test_cosine_by_hand():  # T08: half of the way is half of the height, a third is 3/4
    values = rates(WarmupCosine(0.5, 4, 16), (0, 1, 2, 4, 8, 10, 12, 16, 20))
    assert_close(values, [0.125, 0.125, 0.25, 0.5, 0.375, 0.25, 0.125, 0, 0], 1e-7)


def test_cosine_ends_at_its_share_of_the_peak():  # T08
    values = rates(WarmupCosine(0.5, 4, 16, end_fraction=0.2), (4, 10, 16, 17))
    assert_close(values, [0.5, 0.3, 0.1, 0.1], 1e-7)


def test_one_cycle_by_hand():  # T09: from 0.1 up in 10 steps, and down to 0.04 in 20
    schedule = OneCycle(0.5, 31, 11 / 31, start_fraction=0.2, end_fraction=0.08)
    values = rates(schedule, (0, 1, 6, 11, 21, 31, 40))
    assert_close(values, [0.1, 0.1, 0.3, 0.5, 0.27, 0.04, 0.04], 1e-6)


def test_one_cycle_ends_below_its_start():  # T09
    schedule = OneCycle(0.5, 1000)
    assert_close(rates(schedule, (1, 300, 1000)), [0.02, 0.5, 5e-5], 1e-7)


@pytest.mark.parametrize("step", [1, 2, 17, 30, 31, 64, 99, 100])
def test_one_cycle_is_that_of_pytorch(step):  # T09: its formula; it counts from 0
    number, total, fraction = step - 1, 100, 0.3
    start, top, end = 0.5 / 25, 0.5, 0.5 / 25 / 100
    first = fraction * total - 1  # the last step of the first phase
    if number <= first:
        low, high, done = start, top, number / first
    else:
        low, high, done = top, end, (number - first) / (total - 1 - first)
    expected = high + (low - high) / 2 * (1 + math.cos(math.pi * done))
    schedule = OneCycle(0.5, total, fraction, start_fraction=1 / 25, end_fraction=1 / 2500)
    assert float(schedule(step)) == pytest.approx(expected, rel=1e-4)
