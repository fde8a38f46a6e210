"""Tests of export.exporter.export: what a Keras script hands over, right and wrong.

Files that are made and proven are in the section of the README that tests/test_docs.py runs.

Also: export.validation.
"""

import json

import pytest
from fixtures_run import quiet
from fixtures_servables import LABELS, PIECES, make_config, settings_of

import keras_transformer as kt
from keras_transformer.errors import InputError
from keras_transformer.export import export, exporter, proof, quality
from keras_transformer.pipelines.tasks import make_model

TOKENIZER = kt.text.WordPieceTokenizer(PIECES)
TEXTS = ["two men .", "a b c d e f g h"]


def model_of(task):
    return make_model(make_config(task), settings_of(task))


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr(quality, "ask_in_fresh_process", proof.ask_in_this_process)


def test_one_file_of_a_classifier_is_all_that_is_written(tmp_path, in_this_process):
    console = quiet()
    paths = export(
        model_of("classification"),
        TOKENIZER,
        tmp_path / "out",
        validation=TEXTS,
        formats=["tflite-float16"],
        labels=LABELS,
        max_quality_loss=100,
        console=console,
    )
    assert {path.name for path in paths.values()} == {
        "model.float16.tflite",
        "model.float16.ids.tflite",
    }
    assert not (tmp_path / "out" / "savedmodel").exists()
    assert not (tmp_path / "out" / "models.config").exists()
    card = json.loads((tmp_path / "out" / "model_card.json").read_text("utf-8"))
    assert (card["name"], card["task"], card["labels"]) == ("out", "classification", list(LABELS))
    assert "agreement lost" in console.file.getvalue()
    loaded = kt.load(paths["float16_tflite"])
    assert (loaded.task, loaded.gives) == ("classification", "label")
    assert set(loaded(TEXTS)) <= set(LABELS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"formats": "tflite"}, "formats is 'tflite'; give a list"),
        ({"formats": []}, r"formats is \[\]; give a list"),
        ({"formats": ["tflit"]}, "no format 'tflit'; did you mean 'tflite'"),
        ({"task": "translatoin"}, "no task 'translatoin'; did you mean 'translation'"),
        ({"validation": "two men"}, "validation has to be a list of texts"),
        ({"validation": ["two", 3]}, "validation has to be a list of texts"),
        ({"validation": []}, "validation has 0 texts"),
        ({"validation": (["a", "b"], ["c"])}, "validation has 2 texts and 1 of what is right"),
        ({"name": "a b"}, "'a b' is not a valid name for a model"),
        ({"labels": ["one"]}, "A model for translation takes no labels"),
        ({"max_length": 5}, "A model for translation takes no max_length"),
        ({"settings": {"pooling": "mean"}}, "settings has no 'pooling' for translation"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_written(tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        export(model_of("translation"), TOKENIZER, tmp_path / "out", **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": ["one"]}, "The model has 2 labels, but 1 are named"),
        ({"labels": LABELS, "jit_compile": True}, "The model writes no text"),
        ({"labels": LABELS, "options": kt.decoding.GenerationOptions()}, "writes no text"),
        ({"labels": LABELS, "validation": (TEXTS, TEXTS)}, "so leave out what is right"),
        # It is of the model, which is there.
        ({"labels": LABELS, "settings": {"pooling": "mean"}}, "settings has no 'pooling'"),
        ({"labels": LABELS, "settings": {"score": "none"}}, "Did you mean 'scores'"),
    ],
)
def test_what_is_wrong_for_a_classifier_is_named(tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        export(model_of("classification"), TOKENIZER, tmp_path / "out", **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", ["translation", "causal-lm"])
def test_a_model_may_be_trained_further_after_its_export(tmp_path, monkeypatch, task):
    model = model_of(task)
    seen = []

    def fail(*_):
        seen.append(model.output_kernel is not None)
        raise RuntimeError("no disk")

    monkeypatch.setattr(exporter, "write_tflite", lambda *_: {})
    monkeypatch.setattr(exporter, "export_saved_model", fail)
    with pytest.raises(RuntimeError, match="no disk"):
        export(model, TOKENIZER, tmp_path / "out", validation=TEXTS, formats=["savedmodel"])
    assert seen == [True]
    # Otherwise its logits would be those of the weights as they were.
    assert model.output_kernel is None


def test_a_model_without_a_task_is_refused(tmp_path):
    encoder = kt.models.Bert(make_config("masked-lm"))
    for model, name in ((encoder, "Bert"), ("runs/x", "str")):
        with pytest.raises(InputError, match=f"A {name} has no task of its own: give a model of"):
            export(model, TOKENIZER, tmp_path / "out")
    assert exporter.FORMATS[0] == "savedmodel"
