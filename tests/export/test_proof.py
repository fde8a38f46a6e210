"""Tests of export.proof, of export.quality, and of what an export may replace.

Also: export.quality, export.ties.
"""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from fixtures_export import LITE, exported, ready_made, trained, translator, trials
from fixtures_run import asked_for, everything, quiet

from keras_transformer.artefacts.bulk import translate
from keras_transformer.decoding import GenerationOptions
from keras_transformer.errors import InputError
from keras_transformer.export import exporter, folder, proof, quality
from keras_transformer.export.quality import TextJudge, Validation
from keras_transformer.export.ties import is_tie
from keras_transformer.models.config import END_ID
from keras_transformer.pipelines.servable import Call
from keras_transformer.training.evaluation.text_scores import score_texts
from keras_transformer.training.run.run_directory import RunDirectory

__all__ = ["exported", "ready_made", "trained", "translator", "trials"]


def with_other_weights(run, path):
    """Copy a run, and turn its model into another one."""
    other = RunDirectory(shutil.copytree(run.path, path))
    model = other.load_model()
    model.set_weights([w[..., ::-1] if w.ndim else w for w in model.get_weights()])
    other.save_best(model)
    return other


# --- Proof before publication ---------------------------------------------------------------------


@pytest.mark.usefixtures("ready_made")
def test_an_artefact_of_another_model_is_not_published(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "ask_in_fresh_process", proof.ask_in_this_process)
    other = with_other_weights(trained.run, tmp_path / "other")
    before = everything(tmp_path)
    with pytest.raises(InputError, match=r"savedmodel disagrees with the model .*\n.*\n.*\n") as e:
        exporter.export_run(other, tmp_path / "export", quiet(), precisions=("float32",))
    assert "nothing was written" in str(e.value)
    assert everything(tmp_path) == before


def test_a_file_from_pieces_that_writes_other_ids_is_refused(exported, translator):
    path = exported.paths["ids_tflite"]
    judge = TextJudge(translator, Validation(["red cat"]))
    (answers,) = proof.ask_in_this_process({path: judge.calls("ids")})
    judge.check(path, "ids", answers)
    real = answers[0].outputs["ids"]
    answers[0].outputs["ids"] = np.where(real > END_ID, real + 1, real) % len(translator.tokenizer)
    with pytest.raises(InputError, match=r"model\.ids\.tflite disagrees with the model"):
        judge.check(path, "ids", answers)


def test_an_artefact_that_does_not_run_is_refused(exported, tmp_path):
    damaged = tmp_path / "model.tflite"
    damaged.write_bytes(exported.paths["tflite"].read_bytes()[:5000])
    with pytest.raises(
        InputError, match=r"model\.tflite do not run in a fresh process:(.|\n)*can't be loaded"
    ):
        proof.ask_in_fresh_process({damaged: [Call("translate", {"text": ["red cat"]})]})


@pytest.mark.parametrize(
    "value",
    [
        np.array([[b"a\0", b""], [b"\xff", "ü".encode()]], object),
        np.array([], object),
        np.zeros((0, 3), "float32"),
        np.arange(6, dtype="int32").reshape(2, 3),
        np.array([True, False]),
    ],
)
def test_arrays_come_back_from_a_process_as_they_were(value):
    call = Call("x", {"one": value, "texts": ["ü", "\0"], "bytes": [b"\xff"]})
    back = proof._unpacked(json.loads(json.dumps(proof._packed([call]))))[0]
    assert back["signature"] == "x"
    assert (back["inputs"]["texts"], back["inputs"]["bytes"]) == (["ü", "\0"], [b"\xff"])
    got = back["inputs"]["one"]
    assert (got.dtype, got.shape, got.tolist()) == (value.dtype, value.shape, value.tolist())


@pytest.mark.parametrize(
    ("gaps", "max_length", "tie"),
    [
        ([0.0, 0.0, 0.0], 3, True),
        ([0.0, 5e-5, 0.0], 3, True),
        ([0.0, 1e-3, 0.0], 3, False),
        ([1.0, 0.0, 0.0], 3, False),
        # The end may also have come because the text was as long as may be.
        ([0.0, 0.0, 3.0], 3, True),
        ([0.0, 0.0, 3.0], 4, False),
        ([0.0, 0.0, 3.0], None, False),
        ([0.0, 0.0, 5e-5], None, True),
    ],
)
def test_only_a_tie_excuses_another_text(gaps, max_length, tie):
    logits = np.zeros((1, 3, 7), "float32")
    logits[0, :, 6] = 10  # what the model took
    for step, (label, gap) in enumerate(zip([4, 5, END_ID], gaps, strict=True)):
        logits[0, step, label] = 10 - gap
    asked = []

    def teacher_forced(sources, targets):
        asked.append((sources, targets))
        return tf.constant(logits), tf.constant([[4, 5, END_ID]]), 2

    translator = SimpleNamespace(
        max_length=9,
        model=SimpleNamespace(config=SimpleNamespace(end_id=END_ID)),
        options=GenerationOptions(max_length=max_length),
        teacher_forced=teacher_forced,
    )
    assert is_tie(translator, "c", "a b", -1.0, -2.0) is tie
    assert asked == [(["c"], ["a b"])]


def test_a_tie_of_a_real_model_is_its_own_output(translator):
    (text,) = translate(translator, ["red cat"]).texts
    assert is_tie(translator, "red cat", text, -1.0, -2.0)
    for wrong in ("DOG SUN", "RED", ""):
        assert not is_tie(translator, "red cat", wrong, -1.0, -1.0)


@pytest.mark.parametrize(("score", "tie"), [(-3.00005, True), (-2.99995, True), (-3.001, False)])
@pytest.mark.parametrize(
    "options",
    [
        {"beam_size": 4},
        {"beam_size": 2, "num_hypotheses": 2, "max_length": 9},
        {"repetition_penalty": 1.5},
        {"min_length": 3},
    ],
)
def test_hypotheses_tie_by_their_scores(options, score, tie):
    # No model: it is not asked.
    translator = SimpleNamespace(options=GenerationOptions(**options))
    assert is_tie(translator, "c", "a b", score, -3.0) is tie


@pytest.mark.parametrize(
    ("score", "of_the_model", "tie"),
    [
        (-0.5, -0.5009, True),
        (-0.5, -0.502, False),
        (-20.0, -20.019, True),  # long samples: the sum of more roundings
        (-20.0, -20.03, False),
        (-3.0, -2.0, False),
    ],
)
def test_a_sample_is_excused_by_the_score_that_the_model_gives_it(score, of_the_model, tie):
    asked = []

    def own(texts, targets):
        asked.append((texts, targets))
        return np.array([of_the_model], "float32"), np.array([3]), np.array([False])

    translator = SimpleNamespace(options=GenerationOptions(temperature=1.0), score=own)
    # What another sample scored has no part in it.
    assert is_tie(translator, "c", "a b", score, -3.0) is tie
    assert asked == [(["c"], ["a b"])]


@pytest.mark.parametrize(
    ("options", "score", "passes"),
    [
        ({"beam_size": 2}, -1.00005, True),
        ({"beam_size": 2}, -1.5, False),
        ({"temperature": 1.0}, -7.0, True),
        ({"temperature": 1.0}, -1.0, False),
    ],
)
def test_ties_are_looked_for_where_texts_differ(options, score, passes):
    translator = SimpleNamespace(
        options=GenerationOptions(**options),
        score=lambda texts, targets: (np.array([-7.0]), np.array([2]), np.array([False])),
    )
    judge = TextJudge.__new__(TextJudge)
    judge.servable, judge.texts = translator, ["a", "b", "c"]
    judge._expected = [("A", -1.0)] * 3
    judge._written = lambda *_: [("A", -1.0), ("A", -1.0), ("B", score)]
    path = Path("savedmodel")
    if passes:
        judge.check(path, "savedmodel", [])
        return
    with pytest.raises(InputError, match="savedmodel disagrees with the model") as e:
        judge.check(path, "savedmodel", [])
    assert "text:     'c'\n  model:    'A'\n  artefact: 'B'" in str(e.value)


# --- Quality --------------------------------------------------------------------------------------


INT8 = "model.int8.tflite"


def export(run, path, **options):
    """Export a run, and return what was printed."""
    console = quiet()
    exporter.export_run(run, path, console, **options)
    return console.file.getvalue()


def worse(texts):
    return ["CAT"] * 20 + texts[20:]


def test_a_file_that_loses_too_much_is_refused_and_nothing_is_written(trained, trials, tmp_path):
    trials[INT8] = worse
    with pytest.raises(InputError) as e:
        export(trained.run, tmp_path / "new", max_quality_loss=0.5)
    message = re.sub(r"\d+\.\d\d", "X", str(e.value))
    assert message == (
        "model.int8.tflite loses X points of BLEU against the model (BLEU X), so nothing was "
        "written. Leave its precision out, or allow more by --max-quality-loss, now 0.5."
    )
    assert everything(tmp_path) == {}
    # What is left out can't lose anything, and more may be allowed.
    export(trained.run, tmp_path / "new", max_quality_loss=0, precisions=("float16",))
    export(trained.run, tmp_path / "new", max_quality_loss=50)


def test_float32_has_to_be_the_same_whatever_may_be_lost(trained, trials, tmp_path):
    trials["model.ids.tflite"] = worse
    with pytest.raises(InputError, match=r"model\.ids\.tflite disagrees with the model"):
        export(trained.run, tmp_path / "new", max_quality_loss=99)
    assert everything(tmp_path) == {}


def test_what_each_file_loses_is_measured_on_the_validation_text(trained, trials, tmp_path):
    trials[INT8] = worse
    printed = export(trained.run, tmp_path / "new", max_quality_loss=50)
    card = json.loads((tmp_path / "new" / "model_card.json").read_text())
    said = "BLEU on 60 sentences of the validation text"
    assert card["quality"] == said and said in printed
    files = {one["file"]: one for one in card["files"]}
    assert files.keys() == {"savedmodel", *LITE}
    sources, references = (
        path.read_text().splitlines() for path in (trained.valid.source, trained.valid.target)
    )
    right = translate(trials.translator, sources).texts
    best, less = (score_texts(x, references).bleu for x in (right, worse(right)))
    for name, one in files.items():
        assert one["bleu"] == pytest.approx(less if name == INT8 else best)
        assert one["quality_loss"] == pytest.approx(best - less if name == INT8 else 0)
        assert one["texts_per_second"] == 100
        path = tmp_path / "new" / name
        if path.is_file():
            assert one["bytes"] == path.stat().st_size
    assert best - less > 0.1


@pytest.mark.parametrize("damage", ["gone", "empty", "shorter"])
def test_without_the_validation_text_files_are_compared_on_the_samples(
    trained, trials, tmp_path, damage
):
    side = tmp_path / "changed"
    if damage != "gone":
        side.write_text("RED CAT\n" * (damage == "shorter"))
    run = RunDirectory(shutil.copytree(trained.run.path, tmp_path / "run"))
    asked_for(run, valid_target=str(side))
    assert len(run.samples()) == 50
    trials[INT8] = worse
    export(run, tmp_path / "new", max_quality_loss=99)
    card = json.loads((tmp_path / "new" / "model_card.json").read_text())
    assert card["quality"] == "BLEU against the model's own texts, 50 sentences"
    bleu = {one["file"]: one["bleu"] for one in card["files"]}
    assert bleu["savedmodel"] == pytest.approx(100)
    right = translate(trials.translator, run.samples()).texts
    assert bleu[INT8] == pytest.approx(score_texts(worse(right), right).bleu)
    assert bleu[INT8] < 99.9


@pytest.mark.parametrize(
    ("precisions", "written"),
    [
        (["float32"], [""]),
        (["int8"], ["", ".int8"]),  # float32, which they are compared with, always is
        (["int8", "float16"], ["", ".float16", ".int8"]),
    ],
)
def test_only_the_precisions_that_were_asked_for_are_written(
    trained, trials, tmp_path, precisions, written
):
    paths = exporter.export_run(
        trained.run, tmp_path / "new", quiet(), precisions=precisions, max_quality_loss=99
    )
    names = {f"model{part}{kind}.tflite" for part in written for kind in ("", ".ids")}
    assert {path.name for path in tmp_path.glob("new/*.tflite")} == names
    assert {path.name for path in paths.values()} == {"savedmodel", *names}


# --- What is replaced -----------------------------------------------------------------------------


def test_what_is_no_export_is_never_replaced(trained, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("x")
    before = everything(tmp_path)
    for name, message in (
        ("file", "file is a file; give the name of a folder"),
        ("folder", "folder exists and is not an export; choose another"),
    ):
        with pytest.raises(InputError, match=message):
            exporter.export_run(trained.run, tmp_path / name, quiet())
        assert everything(tmp_path) == before


def test_an_empty_folder_and_an_export_are_free(tmp_path, exported):
    folder.check_free(tmp_path)
    folder.check_free(tmp_path / "new")
    folder.check_free(exported.folder)


def test_another_export_adds_a_version_and_replaces_the_rest(trained, trials, tmp_path):
    folder = tmp_path / "new"
    export(trained.run, folder, name="one")
    (folder / "notes.txt").write_text("mine")
    before = everything(folder / "savedmodel")
    printed = export(trained.run, folder, name="two", precisions=("float32",))
    assert f"{folder}: version 2; all in float32" in printed
    after = everything(folder / "savedmodel")
    assert before.items() <= after.items()
    assert {name.replace("1", "2", 1) for name in before} == after.keys() - before.keys()
    assert json.loads((folder / "model_card.json").read_text())["name"] == "two"
    for number, name in (("1", "one"), ("2", "two")):
        card = folder / "savedmodel" / number / "assets.extra" / "model_card.json"
        assert json.loads(card.read_text())["name"] == name
    # What belongs to the version before, and is not made again, would be taken for this one's.
    assert {p.name for p in folder.glob("*.tflite")} == {"model.tflite", "model.ids.tflite"}
    assert (folder / "notes.txt").read_text() == "mine"
    printed = export(trained.run, folder, keep=2)
    assert "Removed versions 1\n" in printed
    assert {p.name for p in (folder / "savedmodel").iterdir()} == {"2", "3"}
    assert not list(tmp_path.rglob(".writing-*"))


def test_a_run_without_weights_is_not_exported(trained, tmp_path):
    run = RunDirectory(shutil.copytree(trained.run.path, tmp_path / "run"))
    run.best_path.unlink()
    shutil.rmtree(run.checkpoints.folder)
    with pytest.raises(InputError, match="has no weights yet"):
        exporter.export_run(run, tmp_path / "export", console=quiet())
    assert not (tmp_path / "export").exists()
