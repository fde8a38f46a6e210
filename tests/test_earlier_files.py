"""Runs, `.keras` files, exports and tokenisers of an earlier commit still load and give the same.

`golden/make_earlier.py` and `golden/make_earlier_models.py` made them before the modules moved.
Only public names are used here: a file must not know where the code is that made it.
"""

import json
import runpy
import shutil
import sys
import tarfile

import keras
import numpy as np
import pytest
from fixtures_earlier import (
    EARLIER,
    as_arrays,
    assert_same,
    bits_of,
    digest,
    noted,
    optimizer_of,
    place,
    unpack,
    watched,
    weights_of,
)
from fixtures_run import quiet

import keras_transformer as kt

TRAINED = (
    "translation",
    "mixture",
    "summarisation",
    "causal-lm",
    "masked-lm",
    "classification",
    "token-classification",
    "question-answering",
    "image-classification",
)
NOT_TRAINED = ("embedding", "pairs")
EXPORTS = ("translation", "beam", "causal-lm", "classification")
LITE = ("translation", "causal-lm", "classification")
# Of what writes text each signature takes seconds to trace; its exports below are asked for all.
WITHOUT_SEARCH = ("score", "tokenize", "align")


# --- Where the files are --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return unpack("runs", tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    return unpack("exports", tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return unpack("models", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    return unpack("tokenizers", tmp_path_factory.mktemp("tokenizers"))


def read(path):
    return json.loads(path.read_text("utf-8"))


def answers_the_same(artefact, calls, what):
    """Call signatures as they were called, and compare what they give."""
    for one in calls:
        signature, inputs = one["signature"], as_arrays(one["inputs"])
        outputs = artefact.call(signature, **inputs)
        if "outputs" in one:
            assert_same(outputs, as_arrays(one["outputs"]), f"{what}: {signature}")
            continue
        state = {name: [str(x.dtype), list(x.shape)] for name, x in sorted(outputs.items())}
        assert state == one["state"], f"{what}: {signature}"
        text = bytes(inputs["text"][0]).decode()
        pieces = list(getattr(artefact, signature.removesuffix("_start"))(text))
        assert pieces == one["pieces"], f"{what}: {signature}"


# --- Runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*TRAINED, *NOT_TRAINED])
def test_a_run_has_the_same_weights_and_answers_the_same(runs, name):
    expected = read(runs / name / "expected.json")
    run = kt.training.RunDirectory.open(runs / name / "run")
    artefact = kt.export.load(run.path)
    assert weights_of(artefact.model) == expected["weights"]
    assert run.samples() == expected["samples"]
    assert artefact.signatures >= set(expected["signatures"])
    if "vocabulary" in expected:
        assert artefact.vocabulary == expected["vocabulary"]
    writes = "score" in artefact.signatures
    some = [x for x in expected["calls"] if not writes or x["signature"] in WITHOUT_SEARCH]
    answers_the_same(artefact, some, name)


@pytest.mark.parametrize("name", [*TRAINED, "fine-tuning"])
def test_a_run_goes_on_with_the_same_batches_to_the_same_losses(runs, tmp_path, name):
    expected = read(runs / name / "expected.json")
    path = shutil.copytree(runs / name / "run", tmp_path / "run")
    place(path, runs)
    (path / "samples.txt").unlink(missing_ok=True)  # showing them takes longer than the steps
    run = kt.training.RunDirectory.open(path)
    with watched(run_eagerly=True) as steps:
        result = kt.training.train(run, quiet())
    assert [one["batch"] for one in steps] == [one["batch"] for one in expected["steps"]]
    for value in ("loss", "gradient_norm"):
        found, wanted = ([one[value] for one in some] for some in (steps, expected["steps"]))
        np.testing.assert_allclose(found, wanted, rtol=1e-5, err_msg=value)
    assert result.best == pytest.approx(expected["best"], rel=1e-5)
    assert result.last == pytest.approx(expected["last"], rel=1e-5)
    lines = noted(path)
    assert len(lines) == len(expected["noted"])
    for line, wanted in zip(lines, expected["noted"], strict=True):
        assert line.pop("train/examples_by_length", None) == wanted.pop(
            "train/examples_by_length", None
        )
        assert line == pytest.approx(wanted, rel=1e-5)


def test_a_run_of_before_there_were_tasks_is_one_of_translation(runs, tmp_path):
    path = shutil.copytree(runs / "translation" / "run", tmp_path / "run")
    config = read(path / "config.json")
    for name in ("task", "labels", "settings", "max_length"):
        del config[name]
    del config["model"]["family"]
    (path / "config.json").write_text(json.dumps(config))
    expected = read(runs / "translation" / "expected.json")
    artefact = kt.export.load(path)
    assert weights_of(artefact.model) == expected["weights"]
    calls = [one for one in expected["calls"] if one["signature"] == "score"]
    answers_the_same(artefact, calls, path)


def test_the_command_reads_earlier_files(runs, exports, tmp_path, monkeypatch):
    (tmp_path / "lines.txt").write_text("red cat café.\nthe naïve dog, x\n", "utf-8")

    def command(*arguments):
        output = tmp_path / "output.txt"
        words = [*arguments, "--input", tmp_path / "lines.txt", "--output", output]
        monkeypatch.setattr(sys, "argv", ["keras-transformer", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            runpy.run_module("keras_transformer", run_name="__main__")
        assert not end.value.code
        return output.read_text("utf-8").splitlines()

    def recorded(calls, output):
        (one,) = [one for one in calls if one["signature"] == "serving_default"]
        return one["outputs"][output]["values"]

    classified = read(runs / "classification" / "expected.json")["calls"]
    found = command("classify", "--model", runs / "classification" / "run")
    assert [line.split("\t")[0] for line in found] == recorded(classified, "label")
    translated = read(exports / "translation" / "expected.json")["savedmodel"]["calls"]
    for model in (exports / "translation", exports / "translation" / "model.tflite"):
        assert command("translate", "--model", model) == recorded(translated, "text")


# --- Exports --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file"),
    [*((name, "savedmodel") for name in EXPORTS), *((name, "model.tflite") for name in LITE)],
)
def test_an_export_answers_the_same(exports, name, file):
    expected = read(exports / name / "expected.json")[file]
    path = exports / name
    artefact = kt.export.load(path if file == "savedmodel" else path / file)
    assert sorted(artefact.signatures) == expected["signatures"]
    assert artefact.vocabulary == expected["vocabulary"]
    assert artefact.description == expected["description"]
    warmup = [[signature, [str(x) for x in texts]] for signature, texts in artefact.warmup()]
    assert warmup == expected["warmup"]
    answers_the_same(artefact, expected["calls"], f"{name}/{file}")


@pytest.mark.parametrize("name", LITE)
def test_a_file_that_takes_pieces_runs_as_it_did(exports, name):
    from ai_edge_litert.interpreter import Interpreter

    file = "model.ids.tflite"
    expected = read(exports / name / "expected.json")[file]
    runner = Interpreter(str(exports / name / file)).get_signature_runner("ids")
    outputs = runner(**as_arrays(expected["inputs"]))
    assert_same(outputs, as_arrays(expected["outputs"]), f"{name}/{file}")


# --- Models ---------------------------------------------------------------------------------------


def names_of(archive):
    """Return what is recorded in an archive, for one test each."""
    with tarfile.open(EARLIER / f"{archive}.tar.xz") as tar:
        files = [name for name in tar.getnames() if name.endswith(".json") and "/" not in name]
    return sorted(name.removesuffix(".json") for name in files)


MODELS = [name for name in names_of("models") if name != "registered"]


def test_every_registered_name_is_still_known(models):
    for package in (kt.layers, kt.models, kt.training):
        assert package.__all__  # what they register is known once they are loaded
    names = read(models / "registered.json")
    assert [name for name in names if keras.saving.get_registered_object(name) is None] == []


@pytest.mark.parametrize("name", MODELS)
def test_a_keras_file_gives_the_same(models, name):
    expected = read(models / f"{name}.json")
    model = keras.models.load_model(models / f"{name}.keras")
    assert weights_of(model) == expected["weights"]
    outputs = model(as_arrays(expected["inputs"]))
    if not isinstance(outputs, dict):
        outputs = {"output": outputs[0] if isinstance(outputs, list) else outputs}
    found = {key: np.array(keras.ops.cast(x, "float32")) for key, x in outputs.items()}
    assert_same(found, as_arrays(expected["outputs"]), name)
    if "optimizer" in expected:
        assert bits_of(model.optimizer.variables) == expected["optimizer"]
        assert optimizer_of(model) == expected["configuration"]
    if "history" in expected:
        labels = as_arrays(expected["labels"])["labels"]
        history = model.fit(
            as_arrays(expected["inputs"]), labels, batch_size=4, epochs=2, shuffle=False, verbose=0
        ).history
        assert history.keys() == expected["history"].keys()
        for value, wanted in expected["history"].items():
            np.testing.assert_allclose(history[value], wanted, rtol=1e-5, err_msg=value)


# --- Tokenisers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names_of("tokenizers"))
def test_a_tokenizer_cuts_the_same(tokenizers, name):
    expected = read(tokenizers / f"{name}.json")
    tokenizer = kt.text.load_tokenizer(tokenizers / name)
    assert type(tokenizer).__name__ == expected["kind"]
    ids = tokenizer.tokenize(expected["strings"])
    assert ids.to_list() == expected["ids"]
    texts = [x.decode("utf-8", "surrogateescape") for x in tokenizer.detokenize(ids).numpy()]
    assert texts == expected["texts"]
    assert digest(np.array([x.encode() for x in tokenizer.vocabulary])) == expected["vocabulary"]
    for special in ("padding_id", "unknown_id", "begin_id", "end_id", "mask_id"):
        assert getattr(tokenizer, special) == expected[special], special
