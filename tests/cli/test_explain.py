"""Tests of the command `explain`: what it prints is what was measured, and holds for any seed."""

import re
import subprocess
import sys
from typing import get_args

import pytest
import typer
from typer.testing import CliRunner

from keras_transformer.cli.explain import MEASURES, Topic, explain

app = typer.Typer()
app.command()(explain)
SEEDS = pytest.mark.parametrize("seed", [0, 1])


def measured(topic, seed):
    """Run the command: return the cells of each row, and the sentence."""
    result = CliRunner().invoke(app, [topic, "--seed", str(seed)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    table, sentence = result.stdout.strip().rsplit("\n\n", 1)
    _, _, *rows = table.split("\n")
    assert sentence.endswith(".") and "\n" not in sentence
    return [re.split(r"  +", row.strip()) for row in rows], sentence


def number(cell):
    return float(cell.replace(",", ""))


@SEEDS
def test_score_variance(seed):  # C01, C02, C03
    rows, sentence = measured("score-variance", seed)
    assert [row[0] for row in rows] == ["4", "16", "64", "256", "1,024"]
    for row in rows:
        d_k, variance, scaled, *_ = map(number, row)
        assert variance / d_k == pytest.approx(1, abs=0.06)
        assert scaled == pytest.approx(1, abs=0.06)
    largest, largest_scaled, gradient, gradient_scaled = map(number, rows[-1][3:])
    assert largest > 0.8 and largest_scaled < 0.2
    assert gradient_scaled > 20 * gradient
    assert number(rows[1][5]) > number(rows[1][6])  # at 16 it is the other way round
    assert rows[-1][5] in sentence


@SEEDS
def test_attention_vs_dense(seed):  # L36
    (dense, attention), sentence = measured("attention-vs-dense", seed)
    assert dense[1] == "0.00" and dense[-1] == "refused"
    assert number(attention[1]) > 0.1 and attention[-1] == "runs"
    assert attention[1] in sentence


@SEEDS
def test_shared_queries_and_keys(seed):  # C04, C05
    rows, sentence = measured("shared-queries-and-keys", seed)
    short, long, ours, bert = ([number(cell) for cell in row[-4:]] for row in rows)
    assert short[0] > 0.99 and long[0] > 0.97
    assert 0.05 < ours[0] < 0.15 and 0.05 < bert[0] < 0.12
    for shared, apart, symmetric, asymmetric in (short, long, ours, bert):
        assert shared > 5 * apart
        assert symmetric < 1e-5 < 0.1 < asymmetric
    assert rows[0][-4] in sentence


@SEEDS
def test_positions(seed):  # C11, C12, C13
    rows, _ = measured("positions", seed)
    blind, sees, nearest, spread, off = (number(row[-1]) for row in rows)
    assert blind < 1e-5 and sees > 0.1
    assert nearest == pytest.approx(3.71)
    assert spread < 1e-4 and off < 1e-6


@SEEDS
def test_norms(seed):  # C22, C23
    rows, sentence = measured("norms", seed)
    found = {row[0]: [number(cell) for cell in row[1:]] for row in rows}
    assert found["layer norm"] == found["rms norm"] == [0, 0]
    assert min(found["batch norm"]) > 0.5
    assert rows[2][1] in sentence and rows[2][2] in sentence


def test_other_seeds_give_other_numbers():
    assert measured("norms", 0) == measured("norms", 0)
    assert measured("norms", 0) != measured("norms", 1)


def test_every_topic_is_measured_and_others_are_refused():
    assert set(get_args(Topic)) == set(MEASURES)
    result = CliRunner().invoke(app, ["everything"])
    assert result.exit_code == 2
    assert "score-variance" in result.output


def test_nothing_heavy_is_loaded_before_it_is_asked_for():
    code = "import sys, keras_transformer.cli.explain; print(*sys.modules)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"tensorflow", "keras", "numpy"} & set(child.stdout.split())
