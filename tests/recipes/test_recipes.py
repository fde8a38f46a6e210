"""Tests of keras_transformer.recipes and of the option --recipe.

Also: cli.recipe_option, recipes.
"""

import json
from pathlib import Path

import pytest
from fixtures_cli import TEXT, assert_refused, call, here, texts, trained

from keras_transformer import recipes
from keras_transformer.training import trainer
from keras_transformer.training.config import TrainingConfig

__all__ = ["call", "here", "texts", "trained"]

TRAIN = f"train {TEXT} --output new"
RECIPE = """
[train]
num_layers = 1
num_heads = 2
d_model = 16
d_ff = 24
max_length = 24
batch_tokens = 384
vocab_size = 90
steps = 2
warmup = 1
learning_rate = 0.004
schedule = "cosine"
pre_norm = true

[evaluate]
tokenize = "none"
beam_size = 2
"""


@pytest.fixture
def recipe(here, monkeypatch):
    """A recipe in the current folder; runs are set up and not trained."""
    Path("mine.toml").write_text(RECIPE, "utf-8")
    ended = trainer.TrainingResult(2, {}, {}, None)
    monkeypatch.setattr(trainer, "train", lambda *args, **kwargs: ended)


def settings(run):
    config = json.loads(Path(run, "config.json").read_text("utf-8"))
    return {**config["model"], **config["training"]}


def test_a_recipe_sets_what_is_not_given(texts, recipe, call):
    assert call(f"{TRAIN} --recipe mine.toml")[0] == 0
    found = settings("new")
    assert found["d_ff"] == 24
    assert found["learning_rate"] == 0.004
    assert found["schedule"] == "cosine"
    assert found["norm_first"] is True
    assert found["label_smoothing"] == TrainingConfig.label_smoothing  # as without a recipe


@pytest.mark.parametrize("place", ["{given} --recipe mine.toml", "--recipe mine.toml {given}"])
def test_the_command_line_goes_before_the_recipe(texts, recipe, call, place):
    given = "--d-ff 32 --learning-rate 0.001"
    assert call(f"{TRAIN} {place.format(given=given)}")[0] == 0
    found = settings("new")
    assert (found["d_ff"], found["learning_rate"]) == (32, 0.001)
    assert found["schedule"] == "cosine"


@pytest.mark.parametrize(
    "order", ["--recipe multi30k-tokens --config mine.toml", "--config mine.toml --recipe {}"]
)
def test_a_file_of_ones_own_goes_before_a_recipe(texts, recipe, call, order):
    options = order.format("multi30k-tokens")
    status, _, error = call(f"{TRAIN} {options}")
    assert status == 0, error
    found = settings("new")
    assert (found["schedule"], found["d_ff"], found["steps"]) == ("cosine", 24, 2)
    assert found["dropout"] == recipes.load("multi30k-tokens")["train"]["dropout"]


def test_a_file_sets_what_python_has_other_names_for(texts, recipe, call):
    text = RECIPE.replace("[evaluate]", 'set = ["positions=rotary"]\n[evaluate]\njson = true')
    Path("mine.toml").write_text(text, "utf-8")
    assert call(f"{TRAIN} --config mine.toml")[0] == 0
    assert settings("new")["positions"] == "rotary"


def test_each_command_takes_its_own_table(texts, trained, recipe, call):
    assert "steps" in recipes.load("mine.toml")["train"]  # no option of evaluate
    files = f"--model {trained.run.path} --source valid.small --target valid.capital"
    status, output, error = call(f"evaluate {files} --recipe mine.toml")
    assert status == 0, error
    assert "tok:none" in output


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_of_the_package_makes_a_run(texts, recipe, call, name):
    table = recipes.load(name)
    assert {"train", "evaluate", "export"} <= table.keys()
    status, _, error = call(f"{TRAIN} --recipe {name} --vocab-size 90")
    assert status == 0, error
    found = settings("new")
    for option in ("schedule", "dropout", "steps"):
        assert found[option] == table["train"][option]
    assert set(table["evaluate"]) <= {"tokenize", "beam_size", "length_penalty"}
    assert table["export"].items() <= table["evaluate"].items()  # the same search


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (f"{TRAIN} --recipe nothing", "There is no recipe 'nothing'; choose one of multi30k-"),
        (f"{TRAIN} --recipe nothing.toml", "There is no file nothing.toml."),
        (f"{TRAIN} --recipe no-toml.toml", "The recipe no-toml.toml can't be read: "),
        (f"{TRAIN} --recipe loose.toml", "loose.toml sets 'steps' outside of a table"),
        (
            f"{TRAIN} --recipe odd.toml",
            "odd.toml sets 'beam_sice', which is not an option of train.",
        ),
        ("train --resume new --recipe mine.toml", "--resume takes its settings from the run"),
        ("train --resume new --config mine.toml", "--resume takes its settings from the run"),
        (f"{TRAIN} --recipe multi30k-token", "no recipe 'multi30k-token'; did you mean 'multi30k"),
        (f"{TRAIN} --config nothing.toml", "There is no file nothing.toml."),
        (f"{TRAIN} --config multi30k-raw", "--config takes a file that ends with .toml, got 'mu"),
        (
            f"{TRAIN} --config odd.toml",
            "odd.toml sets 'beam_sice', which is not an option of train.",
        ),
        (f"{TRAIN} --config near.toml", "option of train. Did you mean 'batch_tokens'?"),
        (
            f"{TRAIN} --config other.toml",
            "'beam_sise', which is not an option of evaluate. Did you",
        ),
        (
            f"{TRAIN} --config table.toml",
            "a table [trian], which is not a command. Did you mean 'tr",
        ),
        (
            f"{TRAIN} --config self.toml",
            "self.toml sets 'config', which is not an option of train.",
        ),
    ],
)
def test_a_bad_recipe_is_refused(texts, recipe, here, call, arguments, message):
    Path("no-toml.toml").write_text("[train\n", "utf-8")
    Path("loose.toml").write_text("steps = 3\n", "utf-8")
    Path("odd.toml").write_text("[train]\nbeam_sice = 3\n", "utf-8")
    Path("near.toml").write_text("[train]\nbatch-token = 3\n", "utf-8")
    Path("other.toml").write_text("[evaluate]\nbeam_sise = 3\n", "utf-8")
    Path("table.toml").write_text("[trian]\nsteps = 3\n", "utf-8")
    Path("self.toml").write_text('[train]\nconfig = "odd.toml"\n', "utf-8")
    assert_refused(here, call, arguments, message)


def test_a_value_of_the_wrong_kind_is_refused_by_its_option(texts, here, call):
    Path("odd.toml").write_text('[train]\nsteps = "many"\n', "utf-8")
    status, _, error = call(f"{TRAIN} --recipe odd.toml")
    assert status == 2
    assert "'--steps'" in error
    assert not Path("new").exists()
