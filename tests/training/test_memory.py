"""Tests of keras_transformer.training.memory."""

import dataclasses
import re

import pytest
from fixtures_run import quiet

from keras_transformer.models import TransformerConfig
from keras_transformer.training.memory import (
    count_parameters,
    estimate_memory,
    in_words,
    measured_peak,
    memory_table,
)

CONFIG = TransformerConfig.preset("tiny", 8000)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_a_weight_takes_sixteen_bytes_with_adam_under_every_precision(precision):  # T12
    memory = estimate_memory(CONFIG, 32, 64, precision=precision)
    count = count_parameters(CONFIG)
    assert memory.parameters == 4 * count
    assert memory.parameters + memory.gradients + memory.optimizer == 16 * count
    assert memory.total == sum(dataclasses.astuple(memory))


def test_the_optimizer_has_its_copies():
    weights = 4 * count_parameters(CONFIG)

    def optimizer(**settings):
        return estimate_memory(CONFIG, 1, 1, **settings).optimizer

    assert optimizer(optimizer="adamw") == 2 * weights
    assert optimizer(optimizer="adamw", ema=True) == 3 * weights
    assert optimizer(optimizer="adafactor") < 2 * weights


def test_activations_grow_with_the_batch():
    one, four = (estimate_memory(CONFIG, rows, 64) for rows in (8, 32))
    assert four.activations == 4 * one.activations
    assert four.logits == 4 * one.logits
    assert (four.parameters, four.gradients, four.optimizer) == (
        one.parameters,
        one.gradients,
        one.optimizer,
    )
    long = estimate_memory(CONFIG, 8, 256)
    assert long.logits == four.logits
    assert long.activations > four.activations  # the scores grow with the square


def test_mixed_precision_halves_activations_and_not_weights():  # T12
    full, mixed = (
        estimate_memory(CONFIG, 32, 64, precision=precision)
        for precision in ("float32", "mixed_bfloat16")
    )
    assert 0.5 < mixed.activations / full.activations < 0.7
    # Scores are kept in float32 beside their rounded copy; without them it is half.
    short = [
        estimate_memory(CONFIG, 32, 1, precision=precision).activations
        for precision in ("float32", "mixed_bfloat16")
    ]
    assert short[1] / short[0] == pytest.approx(0.5, abs=0.04)
    assert mixed.logits == full.logits
    assert mixed.optimizer == full.optimizer


@pytest.mark.parametrize(("rows", "accumulate", "share"), [(32, 4, 4), (30, 4, 30 / 8), (2, 4, 2)])
def test_micro_batches_divide_activations(rows, accumulate, share):  # T11
    whole = estimate_memory(CONFIG, rows, 64)
    parts = estimate_memory(CONFIG, rows, 64, accumulate=accumulate)
    assert parts.activations == pytest.approx(whole.activations / share)
    assert parts.logits == whole.logits / share
    assert parts.gradients == 2 * whole.gradients  # those of a part and their sum
    assert parts.parameters == whole.parameters


def test_recomputation_keeps_a_tensor_a_block():  # T15
    deep = dataclasses.replace(CONFIG, num_layers=24)
    kept, again = (
        estimate_memory(dataclasses.replace(deep, recompute=r), 32, 64) for r in (False, True)
    )
    assert again.activations < kept.activations / 5
    assert (again.logits, again.total - again.activations) == (
        kept.logits,
        kept.total - kept.activations,
    )
    twice = estimate_memory(dataclasses.replace(deep, num_layers=48, recompute=True), 32, 64)
    assert twice.activations - again.activations == 2 * 24 * 32 * 64 * 128 * 4


def test_the_table_compares_what_saves_memory():
    console = quiet()
    console.print(memory_table(CONFIG, 32, 64))
    lines = [re.split(r"  +|[│┃]", line) for line in console.file.getvalue().splitlines()]
    rows = {
        parts[0]: parts[1:]
        for parts in ([x.strip() for x in line if x.strip()] for line in lines)
        if len(parts) == 7
    }
    assert list(rows) == [
        "as asked for",
        "half the batch",
        "4 micro-batches",
        "mixed_bfloat16",
        "recompute",
        "adafactor",
    ]
    memory = estimate_memory(CONFIG, 32, 64)
    assert rows["as asked for"] == [
        in_words(x) for x in (*dataclasses.astuple(memory), memory.total)
    ]
    assert rows["half the batch"][3] == in_words(memory.activations / 2)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1_499_000, "1 MB"),
        (250e6, "250 MB"),
        (1.234e9, "1.23 GB"),
        (5.6e12, "5600.00 GB"),
    ],
)
def test_bytes_in_words(count, text):
    assert in_words(count) == text


def test_the_peak_is_measured():
    number, unit = re.match(
        r"memory: ([\d.]+) (MB|GB) measured at the peak", measured_peak()
    ).groups()
    # Python with TensorFlow takes some hundred megabytes.
    assert 1e8 < float(number) * {"MB": 1e6, "GB": 1e9}[unit] < 1e11
