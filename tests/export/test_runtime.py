"""Tests of keras_transformer.export.runtime: what is loaded, and what is refused."""

import functools
import shutil
from types import SimpleNamespace

import pytest
import tensorflow as tf
from fixtures_export import TEXTS, expected, exported, trained, translator

from keras_transformer.decoding import GenerationOptions
from keras_transformer.errors import InputError
from keras_transformer.export import runtime
from keras_transformer.export.saved_model import export_saved_model
from keras_transformer.export.tflite.convert import TF_TEXT_OPS, convert
from keras_transformer.pipelines.translator import Translator
from keras_transformer.text import SPECIAL_TOKENS, WordPieceTokenizer

__all__ = ["expected", "exported", "trained", "translator"]

OLD = ["serving_default", "tokenize"]


@pytest.fixture(scope="module")
def old(translator, tmp_path_factory):
    """A small SavedModel with the two signatures that an older version had."""
    path = tmp_path_factory.mktemp("old") / "old"

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def repeat(text):
        return {"text": tf.identity(text), "score": tf.zeros(tf.shape(text))}

    functions = {"serving_default": repeat, "tokenize": translator.function("tokenize")}
    old = SimpleNamespace(
        model=translator.model, function=functions.get, purpose=translator.purpose
    )
    export_saved_model(old, path, OLD)
    return path


@pytest.fixture(scope="module", autouse=True)
def _read_once():
    """Read the SavedModel of each folder once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.saved_model, "load", functools.cache(tf.saved_model.load))
        yield


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
    assert loaded.run(TEXTS[:1])[0] == [expected.texts[:1]]


def test_the_highest_version_is_taken(exported, tmp_path, monkeypatch):
    for version in ("9", "10", "2", "backup"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").write_bytes(b"")
    (tmp_path / "11").mkdir()  # holds nothing yet
    monkeypatch.setattr(runtime, "SavedModel", lambda path: SimpleNamespace(path=path))
    monkeypatch.setattr(runtime, "_check_signatures", lambda path, artefact: None)
    assert runtime.load(tmp_path).path == tmp_path / "10"


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
def test_a_damaged_savedmodel_is_refused(old, tmp_path, file, content):
    path = shutil.copytree(old, tmp_path / "1")
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
        (tmp_path / "text.txt", r"text\.txt is not a model: give a run folder, a SavedModel"),
        (tmp_path / "folder", r"folder is not a model: it is neither a run \(config.json\) nor"),
        (
            tmp_path / "foreign",
            "foreign has no signature serving_default, tokenize; export it",
        ),
        (exported.paths["ids_tflite"], r"model\.ids\.tflite takes no text\. Give .*model\.tflite"),
    ):
        with pytest.raises(InputError, match=message):
            runtime.load(path)


@pytest.mark.parametrize("place", ["", "savedmodel/1", "model.tflite"])
@pytest.mark.parametrize(
    "more", [{"options": GenerationOptions(beam_size=2)}, {"jit_compile": True}], ids=str
)
def test_options_of_an_artefact_are_not_changed(exported, place, more):
    with pytest.raises(
        InputError, match=r"is not a run, and the options of generation are part of"
    ):
        runtime.load(exported.folder / place, **more)


def test_options_reach_the_translator_of_a_run(trained):
    options = GenerationOptions(beam_size=3, num_hypotheses=2)
    loaded = runtime.load(trained.run.path, options, jit_compile=True)
    assert (loaded.options, loaded.jit_compile) == (options, True)
    assert runtime.load(trained.run.path).options == GenerationOptions()


def test_an_artefact_of_an_older_version_is_refused(old, tmp_path):
    with pytest.raises(
        InputError, match=r"old has no signature complete, next_token, .*, translate; export it"
    ):
        runtime.load(old)
    path = tmp_path / "old.tflite"
    path.write_bytes(convert(old, OLD, TF_TEXT_OPS))
    with pytest.raises(InputError, match=r"old\.tflite .* export it again"):
        runtime.load(path)


def test_a_vocabulary_of_another_model_is_refused(translator):
    with pytest.raises(ValueError, match="has 4 pieces, but the model was made for"):
        Translator(translator.model, WordPieceTokenizer(SPECIAL_TOKENS))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"task": "translation"}', "\udcff"])
def test_a_damaged_description_is_refused(content):
    with pytest.raises(InputError, match=r"task\.json is damaged"):
        runtime._parse_purpose(content)


def test_files_that_do_not_say_what_they_are_for_are_told_by_their_outputs(exported, tmp_path):
    version = tmp_path / "savedmodel" / "1"
    shutil.copytree(exported.paths["savedmodel"] / "1", version)
    assert runtime.load(version).task == "translation"
    (version / "assets.extra" / "task.json").unlink()
    loaded = runtime.load(version)
    assert (loaded.task, loaded.gives) == ("translation", "text")
    assert loaded.description == "Writes capital for small: text in, text out."
    (version / "assets.extra" / "task.json").write_text("{}")
    with pytest.raises(InputError, match="export the model again with this version"):
        runtime.load(version)
