"""Tests of keras_transformer.export.model_card."""

import json
from types import SimpleNamespace

import pytest
import tensorflow as tf
from fixtures_export import exported, ready_made, trained, translator, trials
from fixtures_run import quiet

from keras_transformer.decoding import GenerationOptions
from keras_transformer.export import exporter
from keras_transformer.export.model_card import PACKAGES, card_of_run, name_languages, ops_of
from keras_transformer.pipelines.tasks import TaskSettings

__all__ = ["exported", "ready_made", "trained", "translator", "trials"]


@pytest.fixture(scope="module")
def card(exported):
    return json.loads((exported.folder / "model_card.json").read_text("utf-8"))


def test_the_card_tells_what_the_model_is_and_was_made_from(card, trained):
    run = trained.run
    assert (card["name"], card["task"]) == ("capitals", "translation")
    assert card["model"] == run.model_config().to_dict()
    assert card["generation"] == {**GenerationOptions().to_dict(), "jit_compile": False}
    assert card["data"] == {
        "source": ["train.small"],
        "target": ["train.capital"],
        "validation": ["valid.small", "valid.capital"],
        "pairs": {"training": 800, "validation": 60},
    }
    assert card["training"] == {"steps": 200, "precision": "float32"}
    assert card["versions"].keys() == set(PACKAGES)
    assert card["versions"]["tensorflow"] == tf.__version__
    assert card["minimum_server_version"] == "2.12"


def test_the_metrics_are_those_of_the_weights_that_are_exported(card, trained):
    best = trained.result.best
    assert card["metrics"]["step"] == best["step"]
    assert card["metrics"]["validation/loss"] == pytest.approx(best["loss"])
    assert card["metrics"]["validation/perplexity"] == pytest.approx(best["perplexity"])
    assert not [name for name in card["metrics"] if name.startswith("train/")]


def test_no_path_of_the_machine_is_in_the_card(card, trained):
    assert str(trained.folder) not in json.dumps(card)
    assert "/" not in json.dumps(card["data"])


def test_the_ops_are_those_that_a_server_has_to_have(card, exported):
    graph = exported.paths["savedmodel"] / "1"
    assert card["ops"] == ops_of(graph) == sorted(set(card["ops"]))
    assert {"FastWordpieceTokenizeWithOffsets", "MatMul", "While"} <= set(card["ops"])
    assert not [op for op in card["ops"] if op.startswith("__")]  # functions are no ops


def test_languages_are_the_endings_of_the_text_or_what_is_given(card, trained, trials, tmp_path):
    assert card["languages"] == {"source": "small", "target": "capital"}
    assert card["description"] == "Writes capital for small: text in, text out."
    exporter.export_run(trained.run, tmp_path / "new", quiet(), target_language="de")
    given = json.loads((tmp_path / "new" / "model_card.json").read_text())
    assert given["languages"] == {"source": "small", "target": "de"}
    # Without a name the run's folder gives one.
    assert given["name"] == "run"


@pytest.mark.parametrize(
    ("source", "language", "names"),
    [
        ("/data/train.de", "de", ["train.de"]),
        ("/data/train.de.gz", "de", ["train.de.gz"]),
        (["/data/a.en", "b/c.fr"], "en", ["a.en", "c.fr"]),
        ("/data.en/text", "text", ["text"]),
    ],
)
def test_files_go_in_by_name_and_name_the_language(tmp_path, source, language, names):
    training = SimpleNamespace(
        source=source,
        target="/data/train.xx",
        valid_source="/data/valid.yy",
        valid_target="/data/valid.zz",
        precision="float32",
    )
    run = SimpleNamespace(
        task_settings=TaskSettings,
        was_trained_here=True,
        training_config=lambda: training,
        sizes=lambda: {"training": {"size": {"pairs": 3}}, "other": {}},
        steps_done=lambda: 7,
        metrics_path=tmp_path / "metrics.jsonl",
    )
    assert name_languages(run, None, None) == (language, "xx")
    assert name_languages(run, "a", "b") == ("a", "b")
    made = card_of_run(run)
    assert made["data"] == {
        "source": names,
        "target": ["train.xx"],
        "validation": ["valid.yy", "valid.zz"],
        "pairs": {"training": 3},
    }
    assert made["metrics"] == {}  # a run that was never validated
    lines = [{"step": 1, "train/loss": 1.0}, {"step": 2, "validation/loss": 3.0}]
    lines += [
        {"step": 4, "validation/loss": 2.0, "train/loss": 0.5},
        {"step": 6, "validation/loss": 4.0},
    ]
    run.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert card_of_run(run)["metrics"] == {"step": 4, "validation/loss": 2.0}
