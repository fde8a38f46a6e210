"""Tests of exports of encoders, and of the commands that read text.

Also: cli.import_run, cli.read.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fixtures_encoders import LABELS, TEXTS, classifier_run, embedder_run, published
from fixtures_run import quiet
from typer.testing import CliRunner

from keras_transformer.cli.app import app
from keras_transformer.errors import InputError
from keras_transformer.export import export_run, exporter, load, proof, quality, runtime
from keras_transformer.export.tflite.convert import ops_of

__all__ = ["classifier_run", "embedder_run"]

VECTORS = {"embedding": "embedding", "classification": "probabilities"}


@pytest.fixture(scope="module")
def exports(classifier_run, embedder_run, tmp_path_factory):
    """Both runs, exported: `(run, folder, console's text)` by task."""
    found = {}
    for run in (classifier_run, embedder_run):
        folder = tmp_path_factory.mktemp("exports") / "exported"
        console = quiet()
        with pytest.MonkeyPatch.context() as patch:
            several = ("float16", "int8")
            if run is embedder_run:  # one of them in all precisions, and proven in a fresh process
                several = ()
                patch.setattr(quality, "ask_in_fresh_process", proof.ask_in_this_process)
            options = {"precisions": several, "max_quality_loss": 20}
            export_run(run, folder, console, name="reader", **options)
        found[run.task_settings().task] = (run, folder, console.file.getvalue())
    return found


@pytest.fixture
def ready_made(exports, monkeypatch):
    """Exports of the embedder copy the files that are there, and prove them in this process."""
    _, folder, _ = exports["embedding"]

    def saved_model(servable, path):
        shutil.copytree(folder / "savedmodel" / "1", path)
        shutil.rmtree(path / "assets.extra")
        (path / "assets.extra").mkdir()

    def lite(servable, scratch, name, *_):
        names = {"model.tflite": ("", "tflite"), "model.ids.tflite": ("ids", "ids_tflite")}
        return {Path(shutil.copy(folder / file, scratch)): key for file, key in names.items()}

    monkeypatch.setattr(exporter, "export_saved_model", saved_model)
    monkeypatch.setattr(exporter, "write_tflite", lite)
    monkeypatch.setattr(quality, "ask_in_fresh_process", proof.ask_in_this_process)
    return exports["embedding"]


@pytest.mark.parametrize(
    ("task", "file"),
    [
        *((task, file) for task in VECTORS for file in ("", "savedmodel/1", "model.tflite")),
        ("classification", "model.float16.tflite"),
    ],
)
def test_every_artefact_answers_text_as_the_model_does(exports, task, file):
    run, folder, _ = exports[task]
    wanted = run.servable().call("serving_default", text=TEXTS)
    got = load(folder / file).call("serving_default", text=np.array(TEXTS, object))
    assert got.keys() == wanted.keys()
    tolerance = 1e-2 if "float16" in file else 1e-5
    np.testing.assert_allclose(got[VECTORS[task]], wanted[VECTORS[task]], atol=tolerance)
    if task == "classification":
        assert got["label"].tolist() == wanted["label"].tolist()


@pytest.mark.parametrize("task", VECTORS)
def test_a_file_without_custom_ops_takes_pieces(exports, task):
    run, folder, _ = exports[task]
    path = folder / "model.ids.tflite"
    assert not [op for op in ops_of(path.read_bytes()) if op.startswith("custom:")]
    wanted = run.servable().call("serving_default", text=TEXTS)
    ids = run.servable().call("tokenize", text=TEXTS)["ids"]
    got = runtime.open_file(path).call("ids", ids=ids)
    np.testing.assert_allclose(got[VECTORS[task]], wanted[VECTORS[task]], atol=1e-5)


def test_a_process_with_tensorflow_alone_runs_the_savedmodel(exports):
    run, folder, _ = exports["classification"]
    code = (
        "import sys, tensorflow as tf, tensorflow_text\n"
        "f = tf.saved_model.load(sys.argv[1]).signatures['serving_default']\n"
        "print(*[x.decode() for x in f(text=tf.constant(sys.argv[2:]))['label'].numpy()])"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, str(folder / "savedmodel" / "1"), *TEXTS],
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = run.servable().call("serving_default", text=TEXTS)["label"]
    assert child.stdout.split() == [x.decode() for x in wanted]


def test_the_card_tells_what_the_model_is(exports):
    _, folder, printed = exports["classification"]
    card = json.loads((folder / "model_card.json").read_text("utf-8"))
    assert (card["name"], card["task"], card["labels"]) == ("reader", "classification", LABELS)
    assert card["description"] == "Says of a text which of good, bad, größer it is."
    files = {one["file"]: one for one in card["files"]}
    assert files["savedmodel"]["largest_difference"] < 1e-5
    assert files["model.tflite"]["agreement"] == 100
    assert files["model.int8.tflite"]["bytes"] == (folder / "model.int8.tflite").stat().st_size
    assert "version 1; all in float32 agree" in printed
    assert (folder / "savedmodel" / "1" / "assets.extra" / "tokenizer.json").is_file()


def test_another_export_adds_a_version(ready_made, tmp_path):
    run, folder, _ = ready_made
    copy = shutil.copytree(folder, tmp_path / "copy")
    shutil.copy(copy / "model.tflite", copy / "model.int8.tflite")  # as if there had been one
    export_run(run, copy, quiet(), name="reader", precisions=("float32",))
    assert sorted(p.name for p in (copy / "savedmodel").iterdir()) == ["1", "2"]
    assert not (copy / "model.int8.tflite").exists()


def test_what_disagrees_is_not_written(ready_made, tmp_path, monkeypatch):
    embedder_run = ready_made[0]

    def larger(asked):
        found = proof.ask_in_this_process(asked)
        for answer in (answer for answers in found for answer in answers):
            answer.outputs["embedding"] = 1.5 * answer.outputs["embedding"]
        return found

    monkeypatch.setattr(quality, "ask_in_fresh_process", larger)
    with pytest.raises(InputError, match="savedmodel disagrees with the model it was made from by"):
        export_run(embedder_run, tmp_path / "new", quiet(), precisions=())
    assert list(tmp_path.iterdir()) == []


def test_a_small_file_that_loses_too_much_is_not_written(classifier_run, monkeypatch):
    judge = quality.NumbersJudge(classifier_run.servable(), quality.Validation(TEXTS))
    files = {Path("model.int8.tflite"): ""}

    def others(asked):
        found = [proof.ask(judge.servable, calls) for calls in asked.values()]
        for answer in (answer for answers in found for answer in answers):
            answer.outputs["label"] = np.roll(answer.outputs["label"], 1)
        return found

    monkeypatch.setattr(quality, "ask_in_fresh_process", others)
    monkeypatch.setattr(quality, "size_of", lambda path: 1)
    message = r"model\.int8\.tflite loses \d+\.\d\d per cent of agreement against the model"
    with pytest.raises(InputError, match=message):
        quality.measure(judge, files, 1.0)
    (measured,) = quality.measure(judge, files, 100.0)
    assert measured.quality == pytest.approx(100 - measured.quality_loss)
    assert measured.to_dict()["agreement"] == measured.quality < 99


def test_rank_correlation_by_hand():
    vectors = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    assert quality.rank_correlation(vectors, vectors) == pytest.approx(1)
    # Products 0.8, 0, 0.6 against 0, 0.6, 0.8: ranks 2, 0, 1 against 0, 1, 2.
    other = vectors[[2, 0, 1]]
    assert quality.rank_correlation(vectors, other) == pytest.approx(-0.5)


def test_commands_import_export_embed_and_classify(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    published("bert-classifier", tmp_path / "there")
    (tmp_path / "in.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    run = CliRunner().invoke
    assert run(app, ["import", "there", "--output", "run"]).exit_code == 0
    result = run(app, ["classify", "--model", "run", "--input", "in.txt", "--output", "out.tsv"])
    assert result.exit_code == 0
    lines = [line.split("\t") for line in (tmp_path / "out.tsv").read_text("utf-8").splitlines()]
    assert len(lines) == len(TEXTS) and {line[0] for line in lines} <= set(LABELS)
    assert all(1 / 3 <= float(line[1]) <= 1 for line in lines)
    assert (
        run(app, ["import", "there", "--output", "e", "--head", "SentenceEncoder"]).exit_code == 0
    )
    result = run(app, ["embed", "--model", "e", "--input", "in.txt", "--batch", "4"])
    assert result.exit_code == 0
    vectors = [json.loads(line) for line in result.stdout.splitlines()]
    assert np.array(vectors).shape == (len(TEXTS), 16)
    for command, model, message in (
        ("classify", "e", "e gives embedding, and no label."),
        ("embed", "run", "run gives label and probabilities and probability, and no embedding."),
        ("translate", "run", "and no text."),
        ("import", "there", "holds a run already"),
    ):
        source = ["there", "--output", "run"] if command == "import" else ["--model", model]
        result = run(app, [command, *source])
        assert isinstance(result.exception, InputError)
        assert message in str(result.exception)
