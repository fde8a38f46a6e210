"""Tests of keras_transformer.export: what is written, and that it writes what the model writes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from fixtures_run import everything, exported, quiet, trained

from keras_transformer.errors import InputError
from keras_transformer.export import bundle, parity, runtime
from keras_transformer.export.tflite import TF_TEXT_OPS, convert, custom_ops_of
from keras_transformer.models.config import END_ID
from keras_transformer.text import SPECIAL_TOKENS, WordPieceTokenizer
from keras_transformer.training.run_directory import RunDirectory
from keras_transformer.translation import translate
from keras_transformer.translator import Translator, append_end

__all__ = ["exported", "trained"]

TEXTS = [
    "red cat",
    "café. naïve house sun",
    "tree  \t tree\ngreen",
    "",
    "   ",
    "\N{GRINNING FACE} dog 👩‍🚀",
    "cafe\N{COMBINING ACUTE ACCENT}. x\N{COMBINING DIAERESIS}",
    "dog\0cat sun",
    "\0",
    "grey " * 2000,
    "g" * 10_000,
    "猫が好き",
    "[EOS] red ##d [PAD]",
]
LONG = [9, 10]  # of the texts above
BYTES = [b"red cat", b"dog \xff sun", b"\xc3", b"blue\xe7\x8c", b"", b"sun \xed\xa0\x80 tree"]
NAMES = ["keras", "savedmodel", "tflite"]


@pytest.fixture(scope="module")
def translator(trained):
    return Translator(trained.run.load_model(), trained.run.tokenizer())


@pytest.fixture(scope="module")
def runtimes(translator, exported):
    """The model, and both artefacts that take text."""
    return {
        "keras": translator,
        "savedmodel": runtime.load(exported.paths["savedmodel"]),
        "tflite": runtime.load(exported.paths["tflite"]),
    }


@pytest.fixture(scope="module")
def raw(translator, exported):
    """The same three as functions of arrays, which may hold bytes that are no text."""
    model = tf.saved_model.load(str(exported.paths["savedmodel"] / "1"))
    lite = runtime.interpreter(exported.paths["tflite"])
    in_graph = tf.function(
        translator.translate_text, input_signature=[tf.TensorSpec([None], tf.string)]
    )
    runner = lite.get_signature_runner("serving_default")

    def arrays(outputs):
        return {name: x.numpy() for name, x in outputs.items()}

    return {
        "keras": lambda rows: arrays(in_graph(tf.constant(rows, tf.string))),
        "savedmodel": lambda rows: arrays(
            model.signatures["serving_default"](text=tf.constant(rows, tf.string))
        ),
        "tflite": lambda rows: runner(text=np.array(rows, dtype=object)),
    }


@pytest.fixture(scope="module")
def expected(translator):
    return translate(translator, TEXTS)


def same(one, other):
    """Whether texts and scores are equal to the last bit."""
    return np.array_equal(one["text"], other["text"]) and np.array_equal(
        one["score"], other["score"]
    )


def with_other_weights(run, path):
    """Copy a run, and turn its model into another one."""
    other = RunDirectory(shutil.copytree(run.path, path))
    model = other.load_model()
    model.set_weights([w[..., ::-1] if w.ndim else w for w in model.get_weights()])
    other.save_best(model)
    return other


# --- What is written ------------------------------------------------------------------------------


def test_an_export_holds_what_it_promises(trained, exported):
    assert {path.name for path in exported.folder.iterdir()} == {
        "savedmodel",
        "model.tflite",
        "model.ids.tflite",
        "vocab.txt",
    }
    assert [path.name for path in exported.paths["savedmodel"].iterdir()] == ["1"]
    assert all(path.exists() for path in exported.paths.values())
    vocabulary = WordPieceTokenizer.load(exported.folder / "vocab.txt").vocabulary
    assert vocabulary == trained.run.tokenizer().vocabulary
    for name in ("savedmodel/1", "model.tflite", "model.ids.tflite"):
        assert f"{name}: " in exported.printed
    assert exported.printed.count("agrees with the model on 50 sample sentences") == 3


def test_signatures_of_the_savedmodel(exported):
    text, ids = tf.TensorSpec([None], tf.string), tf.TensorSpec([None, None], tf.int32)
    score, truncated = tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.bool)
    promised = {
        "serving_default": ({"text": text}, {"text": text, "score": score}),
        "ids": ({"ids": ids}, {"ids": ids, "score": score}),
        "tokenize": ({"text": text}, {"ids": ids, "truncated": truncated}),
    }
    signatures = tf.saved_model.load(str(exported.paths["savedmodel"] / "1")).signatures

    def plain(specs):
        return {name: (spec.shape.as_list(), spec.dtype) for name, spec in specs.items()}

    assert set(signatures) == set(promised)
    for name, (inputs, outputs) in promised.items():
        positional, named = signatures[name].structured_input_signature
        assert positional == ()
        assert plain(named) == plain(inputs)
        assert plain(signatures[name].structured_outputs) == plain(outputs)


def test_signatures_of_the_tflite_files(exported):
    signatures = {
        name: runtime.interpreter(exported.paths[name]).get_signature_list()
        for name in ("tflite", "ids_tflite")
    }
    assert signatures["tflite"] == {
        "serving_default": {"inputs": ["text"], "outputs": ["score", "text"]},
        "tokenize": {"inputs": ["text"], "outputs": ["ids", "truncated"]},
    }
    assert signatures["ids_tflite"] == {"ids": {"inputs": ["ids"], "outputs": ["ids", "score"]}}


def test_the_tflite_files_hold_no_op_that_the_runtime_lacks(exported):
    text, ids = (exported.paths[name].read_bytes() for name in ("tflite", "ids_tflite"))
    assert custom_ops_of(text) == TF_TEXT_OPS
    assert custom_ops_of(ids) == set()
    assert b"Flex" not in text and b"Flex" not in ids


def test_an_op_outside_the_list_is_refused(exported):
    saved_model = exported.paths["savedmodel"] / "1"
    with pytest.raises(InputError, match=r"would need .*RaggedTensorToTensor.*not written"):
        convert(saved_model, ["tokenize"], custom_ops=frozenset())


# --- The same text everywhere ---------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES[1:])
def test_artefacts_write_what_the_model_writes(runtimes, expected, name):
    actual = translate(runtimes[name], TEXTS)
    assert actual.texts == expected.texts
    np.testing.assert_allclose(actual.scores, expected.scores, rtol=1e-4, atol=1e-4)
    assert actual.truncated == expected.truncated == LONG


def test_the_model_has_something_to_say(trained, translator, expected):  # M19
    # Were all outputs alike, the comparison above would show nothing.
    assert expected.texts[3:5] == ["", ""]
    assert len(set(expected.texts)) > 7
    samples = trained.run.samples()
    outputs = translate(translator, samples).texts
    assert sum(a.upper() == b for a, b in zip(samples, outputs, strict=True)) > 25


@pytest.mark.parametrize("name", NAMES)
def test_bytes_that_are_no_text_leave_other_rows_alone(raw, translator, name):
    outputs = raw[name](BYTES)
    assert outputs["text"].tolist() == raw["keras"](BYTES)["text"].tolist()
    assert outputs["text"][0].decode() == translate(translator, ["red cat"]).texts[0]
    assert outputs["text"][4] == b""
    # A row that is damaged is read as if the word were unknown.
    assert outputs["text"][1] == raw[name]([b"dog \xe2\x9d\x93 sun"])["text"][0]


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_gives_what_its_rows_give(raw, name):  # T28
    rows = [text.encode() for text in TEXTS] + BYTES
    together = raw[name](rows)
    alone = [raw[name]([row]) for row in rows]
    assert together["text"].tolist() == [x["text"][0] for x in alone]
    np.testing.assert_allclose(
        together["score"], [x["score"][0] for x in alone], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", NAMES)
def test_two_runs_are_equal_to_the_last_bit(raw, translator, name):  # C24
    assert translator.model.config.dropout > 0
    rows = [text.encode() for text in TEXTS]
    assert same(raw[name](rows), raw[name](rows))


def test_dropout_would_make_runs_differ(translator):  # C24
    ids = {"source_ids": np.array([[5, 6, 3]]), "target_ids": np.array([[2, 7, 8]])}
    on, off = (
        [translator.model(ids, training=training).numpy() for _ in range(2)]
        for training in (True, False)
    )
    assert not np.array_equal(*on)
    assert np.array_equal(*off)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_too_long_is_cut_and_reported(runtimes, translator, name):  # X01
    fits = translator.max_length - 1  # the end token takes one place
    texts = ["g " * (fits - 1) + last for last in ("r", "r g", "")]
    ids, truncated = runtimes[name].tokenize(texts)
    assert np.count_nonzero(ids, axis=1).tolist() == [fits, fits + 1, fits - 1]
    assert truncated.tolist() == [False, True, False]
    result = translate(runtimes[name], texts)
    assert result.truncated == [1]
    # Cut at the end and not elsewhere.
    assert result.texts[1] == result.texts[0]


@pytest.mark.parametrize(
    ("max_length", "expected"),
    [
        (9, [[5, 6, 7, 3], [5, 3, 0, 0], [3, 0, 0, 0]]),
        (4, [[5, 6, 7, 3], [5, 3, 0, 0], [3, 0, 0, 0]]),
        (3, [[5, 6, 3], [5, 3, 0], [3, 0, 0]]),
        (2, [[5, 3], [5, 3], [3, 0]]),
    ],
)
def test_only_what_is_too_long_is_cut(max_length, expected):  # X01
    ids = tf.constant([[5, 6, 7], [5, 0, 0], [0, 0, 0]])
    assert append_end(ids, max_length).numpy().tolist() == expected


@pytest.mark.parametrize("name", NAMES)
def test_no_rows_and_many_batches(runtimes, expected, name):
    assert translate(runtimes[name], []).texts == []
    done = []
    result = translate(runtimes[name], TEXTS[:7], batch_size=3, advance=done.append)
    assert result.texts == expected.texts[:7]
    assert done == [3, 3, 1]


def test_the_signature_of_ids_gives_the_models_ids(exported, translator):
    texts = [text for text in TEXTS if "\0" not in text]
    ids = translator.tokenizer.tokenize(texts).to_tensor()
    in_graph = tf.function(translator.translate_ids)(ids)
    saved = tf.saved_model.load(str(exported.paths["savedmodel"] / "1")).signatures["ids"](ids=ids)
    # A runtime that has no custom ops at all.
    lite = Interpreter(model_path=str(exported.paths["ids_tflite"])).get_signature_runner("ids")
    for outputs in (saved, lite(ids=ids.numpy())):
        assert np.array_equal(outputs["ids"], in_graph["ids"])
        np.testing.assert_allclose(outputs["score"], in_graph["score"], rtol=1e-4, atol=1e-4)
    rows = in_graph["ids"].numpy()
    assert rows[0][np.count_nonzero(rows[0]) - 1] == END_ID


def test_a_process_with_tensorflow_alone_runs_the_savedmodel(exported, expected):
    code = """
import json, sys
import tensorflow as tf
import tensorflow_text
signatures = tf.saved_model.load(sys.argv[1]).signatures
text = tf.constant(json.load(sys.stdin), tf.string)
runs = [signatures["serving_default"](text=text) for _ in range(2)]
same = all(bool(tf.reduce_all(tf.equal(runs[0][name], runs[1][name]))) for name in runs[0])
cut = signatures["tokenize"](text=text)["truncated"].numpy().nonzero()[0].tolist()
foreign = [name for name in sys.modules if name.startswith("keras_transformer")]
json.dump([[t.decode() for t in runs[0]["text"].numpy()], same, cut, foreign], sys.stdout)
"""
    child = subprocess.run(
        [sys.executable, "-c", code, str(exported.paths["savedmodel"] / "1")],
        input=json.dumps(TEXTS),
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    texts, equal, truncated, foreign = json.loads(child.stdout)
    assert texts == expected.texts
    assert equal  # C24
    assert truncated == LONG
    assert foreign == []


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
    assert parity._is_tie(translator, "c", "a b") is tie
    assert seen == [[[2, 4, 5]]]


def test_a_tie_of_a_real_model_is_its_own_output(translator):
    (text,) = translate(translator, ["red cat"]).texts
    assert parity._is_tie(translator, "red cat", text)
    assert not parity._is_tie(translator, "red cat", "DOG SUN")


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


# --- Loading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("run", Translator),
        ("savedmodel", runtime.SavedModel),
        ("savedmodel/1", runtime.SavedModel),
        ("", runtime.SavedModel),
        ("model.tflite", runtime.TFLiteModel),
    ],
)
def test_everything_that_translates_is_loaded(trained, exported, expected, place, kind):
    loaded = runtime.load(str(trained.run.path if place == "run" else exported.folder / place))
    assert isinstance(loaded, kind)
    assert loaded.run(TEXTS[:1])[0] == expected.texts[:1]


def test_the_highest_version_is_taken(exported, tmp_path, monkeypatch):
    for version in ("9", "10", "2", "backup"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").write_bytes(b"")
    (tmp_path / "11").mkdir()  # holds nothing yet
    monkeypatch.setattr(runtime, "SavedModel", lambda path: path)
    assert runtime.load(tmp_path) == tmp_path / "10"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("saved_model.pb", b""),
        ("saved_model.pb", b"garbage"),
        ("variables/variables.index", b"garbage" * 10),
        ("variables/variables.data-00000-of-00001", b"ga"),
        ("variables/variables.data-00000-of-00001", None),
    ],
)
def test_a_damaged_savedmodel_is_refused(exported, tmp_path, file, content):
    path = shutil.copytree(exported.paths["savedmodel"] / "1", tmp_path / "1")
    (path / file).unlink()
    if content is not None:
        (path / file).write_bytes(content)
    with pytest.raises(InputError, match="1 can't be loaded"):
        runtime.load(path)


@pytest.mark.parametrize("content", [b"", b"garbage" * 99, "half"])
def test_a_damaged_tflite_file_is_refused(exported, tmp_path, content):
    path = tmp_path / "damaged.tflite"
    data = exported.paths["tflite"].read_bytes()
    path.write_bytes(data[: len(data) // 2] if content == "half" else content)
    with pytest.raises(InputError, match=r"damaged\.tflite can't be loaded"):
        runtime.load(path)


def test_foreign_things_are_refused(exported, tmp_path):
    (tmp_path / "text.txt").write_text("red cat\n")
    (tmp_path / "folder").mkdir()
    module = tf.Module()
    module.f = tf.function(lambda x: x + 1, input_signature=[tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(module, str(tmp_path / "foreign"), signatures={"f": module.f})
    for path, message in (
        (tmp_path / "missing", "There is no file or folder .*missing"),
        (tmp_path / "text.txt", r"text\.txt is no model: give a run folder, a SavedModel"),
        (tmp_path / "folder", r"folder is no model: it is neither a run \(config.json\) nor"),
        (tmp_path / "foreign", "foreign has no signature serving_default, tokenize"),
        (exported.paths["ids_tflite"], r"model\.ids\.tflite takes no text\. Give .*model\.tflite"),
    ):
        with pytest.raises(InputError, match=message):
            runtime.load(path)


def test_a_vocabulary_of_another_model_is_refused(translator):
    with pytest.raises(ValueError, match="has 4 pieces, but the model was made for"):
        Translator(translator.model, WordPieceTokenizer(SPECIAL_TOKENS))
