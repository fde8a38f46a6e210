"""Tests of keras_transformer.export.parity, and of what an export may replace."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from fixtures_export import exported, trained, translator
from fixtures_run import everything, quiet

from keras_transformer.decoding import GenerationOptions
from keras_transformer.errors import InputError
from keras_transformer.export import bundle, parity
from keras_transformer.models.config import END_ID
from keras_transformer.text import SPECIAL_TOKENS, WordPieceTokenizer
from keras_transformer.training.run_directory import RunDirectory
from keras_transformer.translation import translate

__all__ = ["exported", "trained", "translator"]


def with_other_weights(run, path):
    """Copy a run, and turn its model into another one."""
    other = RunDirectory(shutil.copytree(run.path, path))
    model = other.load_model()
    model.set_weights([w[..., ::-1] if w.ndim else w for w in model.get_weights()])
    other.save_best(model)
    return other


# --- Proof before publication ---------------------------------------------------------------------


def test_an_artefact_of_another_model_is_not_published(trained, exported, tmp_path, monkeypatch):
    other = with_other_weights(trained.run, tmp_path / "other")
    monkeypatch.setattr(
        bundle,
        "export_saved_model",
        lambda _, path: shutil.copytree(exported.paths["savedmodel"] / "1", path),
    )
    monkeypatch.setattr(bundle, "convert", lambda *_: b"")
    before = everything(tmp_path)
    with pytest.raises(InputError, match=r"1 disagrees with the model .*\n.*\n.*\n") as e:
        bundle.export_run(other, tmp_path / "export", console=quiet())
    assert "nothing was written" in str(e.value)
    assert everything(tmp_path) == before


def test_ids_of_another_vocabulary_are_refused(exported, translator, tmp_path):
    pieces = translator.tokenizer.vocabulary
    WordPieceTokenizer([*pieces[:4], *pieces[:3:-1]]).save(tmp_path / "vocab.txt")
    artefact = shutil.copy(exported.paths["ids_tflite"], tmp_path)
    with pytest.raises(InputError, match=r"model\.ids\.tflite disagrees with the model"):
        parity.check(Path(artefact), translator, ["red cat"])


def test_an_artefact_that_does_not_run_is_refused(exported, tmp_path, translator):
    damaged = tmp_path / "model.tflite"
    damaged.write_bytes(exported.paths["tflite"].read_bytes()[:5000])
    with pytest.raises(InputError, match=r"model\.tflite does not run in a fresh process"):
        parity.check(damaged, translator, ["red cat"])


@pytest.mark.parametrize(
    ("gaps", "tie"),
    [
        ([0.0, 0.0, 0.0], True),
        ([0.0, 5e-5, 0.0], True),
        ([0.0, 1e-3, 0.0], False),
        ([1.0, 0.0, 0.0], False),
        # The end may also have come because the text was as long as may be.
        ([0.0, 0.0, 3.0], True),
    ],
)
def test_only_a_tie_excuses_another_text(gaps, tie):
    tokenizer = WordPieceTokenizer([*SPECIAL_TOKENS, "a", "b", "c"])
    seen = []

    def model(inputs, training):
        seen.append(inputs["target_ids"].numpy().tolist())
        logits = np.zeros((1, 3, 7), "float32")
        logits[0, :, 6] = 10  # what the model took
        for step, (label, gap) in enumerate(zip([4, 5, END_ID], gaps, strict=True)):
            logits[0, step, label] = 10 - gap
        return tf.constant(logits)

    translator = SimpleNamespace(tokenizer=tokenizer, max_length=9, model=model)
    options = GenerationOptions(max_length=3)
    translator.options = options
    assert parity._is_tie(translator, "c", "a b", -1.0, -2.0) is tie
    assert seen == [[[2, 4, 5]]]


def test_a_tie_of_a_real_model_is_its_own_output(translator):
    (text,) = translate(translator, ["red cat"]).texts
    assert parity._is_tie(translator, "red cat", text, -1.0, -2.0)
    assert not parity._is_tie(translator, "red cat", "DOG SUN", -1.0, -1.0)


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
    assert parity._is_tie(translator, "c", "a b", score, -3.0) is tie


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
    assert parity._is_tie(translator, "c", "a b", score, -3.0) is tie
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
def test_ties_are_looked_for_where_texts_differ(monkeypatch, options, score, passes):
    def run(texts):
        return [["A"] for _ in texts], [[-1.0] for _ in texts]

    translator = SimpleNamespace(
        options=GenerationOptions(**options),
        run=run,
        tokenize=lambda texts: (np.ones((len(texts), 2), int), np.zeros(len(texts), bool)),
        score=lambda texts, targets: (np.array([-7.0]), np.array([2]), np.array([False])),
    )
    outputs = [("A", -1.0)] * len(parity.EDGE_CASES) + [("B", score)]
    monkeypatch.setattr(parity, "run_in_fresh_process", lambda artefact, texts: outputs[::-1])
    if passes:
        parity.check(Path("savedmodel/1"), translator, ["c"])
        return
    with pytest.raises(InputError, match="1 disagrees with the model"):
        parity.check(Path("savedmodel/1"), translator, ["c"])


# --- What is replaced -----------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_export_is_never_replaced(trained, tmp_path, overwrite):
    for name in ("file", "folder"):
        path = tmp_path / name
        if name == "folder":
            path.mkdir()
            (path / "thesis.txt").write_text("x")
        else:
            path.write_text("x")
        before = everything(tmp_path)
        with pytest.raises(InputError, match=f"{name} exists and is not an export"):
            bundle.export_run(trained.run, path, overwrite, quiet())
        assert everything(tmp_path) == before


def test_an_export_is_replaced_only_if_asked(trained, exported):
    with pytest.raises(InputError, match="holds an export already; replace it by --overwrite"):
        bundle.export_run(trained.run, exported.folder, console=quiet())
    bundle.check_free(exported.folder, overwrite=True)


def test_an_empty_folder_is_free(tmp_path):
    bundle.check_free(tmp_path, overwrite=False)
    bundle.check_free(tmp_path / "new", overwrite=False)


def test_a_run_without_weights_is_not_exported(trained, tmp_path):
    run = RunDirectory(shutil.copytree(trained.run.path, tmp_path / "run"))
    run.best_path.unlink()
    shutil.rmtree(run.checkpoints.folder)
    with pytest.raises(InputError, match="has no weights yet"):
        bundle.export_run(run, tmp_path / "export", console=quiet())
    assert not (tmp_path / "export").exists()
