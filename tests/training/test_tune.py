"""Tests of keras_transformer.training.tune."""

import dataclasses
import json

import pytest
from fixtures_families import without_decoding
from fixtures_run import MODEL, TRAINING, everything, pretend_checkpoint, quiet, write_text

from keras_transformer.errors import InputError
from keras_transformer.training import tune as tune_module
from keras_transformer.training.run.run_directory import RunDirectory
from keras_transformer.training.tasks import sequence_to_sequence
from keras_transformer.training.tune import TuneResult, grid_points, table, tune

__all__ = ["without_decoding"]

OPTIONS = {
    "vocabulary_size": 120,
    "model": {**MODEL, "d_model": 16},
    "training": {**TRAINING, "warmup_steps": 2, "validate_every": 8, "checkpoint_every": 8},
}


@pytest.fixture
def texts(tmp_path):
    return write_text(tmp_path, "train", 60), write_text(tmp_path, "valid", 20)


def search(folder, texts, specs, *, steps=8, console=None, **options):
    points = grid_points(specs)
    options = {**OPTIONS, **options}
    return tune(folder, *texts, points, steps=steps, console=console or quiet(), **options)


def pretend(monkeypatch, *bests):
    """Replace training by checkpoints of runs that are finished, and return who was trained."""
    trained, values = [], iter(bests)

    def train(run, console):
        trained.append(run.path.name)
        best = {"step": 8, "loss": 1.0, "perplexity": 2.0, "token_accuracy": 0.5, **next(values)}
        pretend_checkpoint(run, run.training_config().steps, {"best": best})

    monkeypatch.setattr(tune_module, "train_run", train)
    return trained


def printed(shown):
    console = quiet()
    console.print(shown)
    return console.file.getvalue()


# --- The grid -------------------------------------------------------------------------------------


def test_grid_is_every_combination():  # T25
    assert grid_points(["learning_rate=1e-3,2e-3", "num_layers=2,4"]) == [
        {"model": {"num_layers": 2}, "training": {"learning_rate": 0.001}},
        {"model": {"num_layers": 4}, "training": {"learning_rate": 0.001}},
        {"model": {"num_layers": 2}, "training": {"learning_rate": 0.002}},
        {"model": {"num_layers": 4}, "training": {"learning_rate": 0.002}},
    ]


@pytest.mark.parametrize(
    ("spec", "part", "values"),
    [
        ("num_heads=8", "model", [8]),
        ("dropout=0,0.1", "model", [0.0, 0.1]),
        ("norm_first=true,false", "model", [True, False]),
        ("positions=sinusoidal, learned", "model", ["sinusoidal", "learned"]),
        ("schedule=linear", "training", ["linear"]),
        ("seed=1,2,1", "training", [1, 2]),
    ],
)
def test_values_have_the_type_of_the_field(spec, part, values):
    name = spec.partition("=")[0]
    found = [point[part][name] for point in grid_points([spec])]
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_a_field_of_both_is_set_in_both():
    assert grid_points(["max_length=32"]) == [
        {"model": {"max_length": 32}, "training": {"max_length": 32}}
    ]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([], "at least one --grid"),
        (["layers=2"], r"--grid layers=2 does not .* the fields are .*num_layers, .*seed"),
        (["steps=2"], "--grid steps=2 does not set a known field"),
        (["num_layers"], "--grid num_layers does not set a known field by NAME=VALUE,VALUE"),
        (["num_layers=2,x"], "--grid num_layers: 'x' is not of type int"),
        (["num_layers=2,"], "--grid num_layers: '' is not of type int"),
        (["num_layers=2.5"], "'2.5' is not of type int"),
        (["dropout=a"], "--grid dropout: 'a' is not of type float"),
        (["norm_first=1"], "--grid norm_first: '1' is not one of true, false"),
        (["positions=sideways"], "--grid positions: 'sideways' is not one of sinusoidal, learned"),
        (["seed=1", "seed=2"], "--grid seed is given twice"),
    ],
)
def test_what_is_no_grid_is_refused(specs, message):
    with pytest.raises(InputError, match=message):
        grid_points(specs)


# --- The search -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_decoding")
def test_same_seed_gives_the_same_table(tmp_path, texts, monkeypatch):  # T25
    monkeypatch.setattr(sequence_to_sequence, "SAMPLES_SHOWN", 0)  # they take long
    train = tune_module.train_run

    def train_the_higher(run, console):
        # At the lower learning rate nothing is learned in 8 steps; that need not be trained.
        if run.training_config().learning_rate == 1e-4:
            nothing = {"step": 8, "loss": 5.0, "perplexity": 150.0, "token_accuracy": 0.0}
            return pretend_checkpoint(run, 8, {"best": nothing})
        return train(run, console)

    monkeypatch.setattr(tune_module, "train_run", train_the_higher)
    consoles = quiet(), quiet()
    one, again = (
        search(tmp_path / rates, texts, [f"learning_rate={rates}"], console=console)
        for rates, console in zip(("1e-4,2e-2", "2e-2"), consoles, strict=True)
    )
    assert again == [dataclasses.replace(one[0], folder=again[0].folder)]
    first, second = (line for line in printed(table(one)).splitlines() if "/00" in line)
    assert "0.02" in first and "0.0001" in second
    assert [r.settings for r in one] == [{"learning_rate": 0.02}, {"learning_rate": 0.0001}]
    assert one[0].best["loss"] < one[1].best["loss"]
    assert [r.folder.name for r in one] == ["001", "000"]
    text = consoles[0].file.getvalue()
    assert "point 1/2: learning_rate 0.0001" in text and "point 2/2: learning_rate 0.02" in text
    RunDirectory.open(one[0].folder).load_model()


def test_every_point_is_a_run_of_its_own_with_one_vocabulary(tmp_path, texts, monkeypatch):
    pretend(monkeypatch, {"loss": 3.0}, {"loss": 2.0})
    console = quiet()
    search(tmp_path / "grid", texts, ["num_layers=1,2"], console=console)
    runs = [RunDirectory.open(tmp_path / "grid" / name) for name in ("000", "001")]
    assert [run.model_config().num_layers for run in runs] == [1, 2]
    assert {run.model_config().d_model for run in runs} == {16}
    assert runs[0].vocabulary_path.read_bytes() == runs[1].vocabulary_path.read_bytes()
    assert console.file.getvalue().count("Learned a vocabulary") == 1
    found = json.loads((tmp_path / "grid" / "tune.json").read_text())
    assert [result["folder"] for result in found["results"]] == ["001", "000"]
    assert [result["best"]["loss"] for result in found["results"]] == [2.0, 3.0]


def test_a_stopped_search_goes_on_where_it_was(tmp_path, texts, monkeypatch):
    trained = pretend(monkeypatch, {"loss": 3.0})  # after one run it stops with an error
    with pytest.raises(StopIteration):
        search(tmp_path / "grid", texts, ["seed=1,2,3"])
    assert trained == ["000", "001"]
    trained = pretend(monkeypatch, {"loss": 2.0}, {"loss": 4.0})
    resumed = search(tmp_path / "grid", texts, ["seed=1,2,3"])
    assert trained == ["001", "002"]
    assert [r.best["loss"] for r in resumed] == [2.0, 3.0, 4.0]
    before = everything(tmp_path / "grid")
    assert search(tmp_path / "grid", texts, ["seed=1,2,3"]) == resumed
    assert trained == ["001", "002"]
    assert everything(tmp_path / "grid") == before


def test_interrupted_run_ends_the_search(tmp_path, texts, monkeypatch):
    monkeypatch.setattr(tune_module, "train_run", lambda run, console: None)
    console = quiet()
    assert search(tmp_path / "grid", texts, ["seed=1,2"], console=console) == []
    assert "Interrupted" in console.file.getvalue()
    assert "point 2/2" not in console.file.getvalue()


@pytest.mark.usefixtures("without_decoding")
def test_run_that_stopped_early_is_not_trained_again(tmp_path, texts, monkeypatch):
    monkeypatch.setattr(sequence_to_sequence, "SAMPLES_SHOWN", 0)
    training = {**OPTIONS["training"], "learning_rate": 50.0, "validate_every": 1, "patience": 1}
    options = {"training": training, "steps": 40}
    results = search(tmp_path / "grid", texts, ["seed=1"], **options)
    assert 0 < RunDirectory(tmp_path / "grid" / "000").steps_done() < 40
    monkeypatch.setattr(tune_module, "train_run", None)
    assert search(tmp_path / "grid", texts, ["seed=1"], **options) == results


def test_point_whose_loss_is_not_finite_comes_last(tmp_path, texts, monkeypatch):
    pretend(monkeypatch, {"loss": 3.0})
    train = tune_module.train_run

    def fail_first(run, console):
        if run.path.name == "000":
            raise InputError("The loss became nan at step 3")
        return train(run, console)

    monkeypatch.setattr(tune_module, "train_run", fail_first)
    results = search(tmp_path / "grid", texts, ["seed=1,2"])
    assert [r.folder.name for r in results] == ["001", "000"]
    assert (results[1].best, results[1].error) == ({}, "The loss became nan at step 3")
    assert "stopped early by an error" in printed(table(results))


@pytest.mark.parametrize(
    ("spec", "order"), [("label_smoothing=0,0.4", [1.0, 2.0]), ("seed=1,2", [2.0, 1.0])]
)
def test_losses_with_different_smoothing_are_compared_by_perplexity(
    tmp_path, texts, monkeypatch, spec, order
):
    pretend(monkeypatch, {"loss": 3.0, "perplexity": 1.0}, {"loss": 2.0, "perplexity": 2.0})
    results = search(tmp_path / "grid", texts, [spec])
    assert [r.best["perplexity"] for r in results] == order


def test_value_out_of_range_is_found_before_anything_is_trained(tmp_path, texts):
    with pytest.raises(InputError, match="num_layers must be at least 1, got 0"):
        search(tmp_path / "grid", texts, ["num_layers=1,0"])
    assert not (tmp_path / "grid").exists()


def test_another_search_is_refused(tmp_path, texts, monkeypatch):
    monkeypatch.setattr(tune_module, "train_run", lambda run, console: None)
    search(tmp_path / "grid", texts, ["seed=1"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    before = everything(tmp_path)
    with pytest.raises(InputError, match="holds a search with other points;"):
        search(tmp_path / "grid", texts, ["seed=2"])
    with pytest.raises(InputError, match="holds a search with other steps, options;"):
        search(tmp_path / "grid", texts, ["seed=1"], steps=9, vocabulary_size=130)
    with pytest.raises(InputError, match="exists and is not a search"):
        search(tmp_path / "mine", texts, ["seed=1"])
    assert everything(tmp_path) == before
    (tmp_path / "grid" / "tune.json").write_text("{}")
    with pytest.raises(InputError, match=r"tune.json is damaged"):
        search(tmp_path / "grid", texts, ["seed=1"])


def test_given_vocabulary_is_that_of_all_runs(tmp_path, texts, monkeypatch):
    monkeypatch.setattr(tune_module, "train_run", lambda run, console: None)
    search(tmp_path / "one", texts, ["seed=1"])
    vocabulary = tmp_path / "one" / "000" / "vocab.txt"
    console = quiet()
    search(tmp_path / "two", texts, ["seed=1,2"], vocabulary=vocabulary, console=console)
    for name in ("000", "001"):
        assert (tmp_path / "two" / name / "vocab.txt").read_bytes() == vocabulary.read_bytes()
    assert "Learned" not in console.file.getvalue()


def test_table_shows_the_best_first(tmp_path):
    best = {"loss": 1.5, "perplexity": 3.25, "token_accuracy": 0.5, "step": 1200}
    text = printed(table([TuneResult(tmp_path / "003", {"learning_rate": 1e-3}, best)]))
    for value in ("learning_rate", "0.001", "1.5000", "3.25", "50.0%", "1,200", "003"):
        assert value in text
    assert "Validation" in printed(table([]))
