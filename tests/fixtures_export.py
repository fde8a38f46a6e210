"""The model of the small run as a `Translator`, and what it makes of many kinds of text."""

import shutil

import pytest
from fixtures_run import exported, trained

from keras_transformer.artefacts.bulk import translate
from keras_transformer.export import exporter, quality, runtime
from keras_transformer.export.proof import Answer
from keras_transformer.export.tflite import write
from keras_transformer.pipelines.translator import Translator

__all__ = ["exported", "trained"]

LITE = {
    f"model{precision}{kind}.tflite"
    for precision in ("", ".float16", ".int8")
    for kind in ("", ".ids")
}
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
def expected(translator):
    return translate(translator, TEXTS)


@pytest.fixture
def ready_made(monkeypatch, exported):
    """Exports copy the files that are there, and do not make them again."""

    def saved_model(translator, path, signatures=None):
        shutil.copytree(exported.paths["savedmodel"] / "1", path)
        shutil.rmtree(path / "assets.extra")
        (path / "assets.extra").mkdir()

    def lite(_, signatures, __, precision):
        parts = [precision] * (precision != "float32") + ["ids"] * (signatures == ["ids"])
        return exported.paths["_".join([*parts, "tflite"])].read_bytes()

    monkeypatch.setattr(exporter, "export_saved_model", saved_model)
    monkeypatch.setattr(write, "export_saved_model", lambda _, path, signatures: path.mkdir())
    monkeypatch.setattr(write, "convert", lite)
    monkeypatch.setattr(write, "add_metadata", lambda content, *_: content)


class Changed(dict):
    """Functions of the texts that a file should have written, by the file's name."""


@pytest.fixture
def trials(monkeypatch, translator, ready_made):
    """What each file, by name, is to have written in a fresh process; what is right if not here."""
    changed = Changed()
    changed.translator = translator

    class Answers(list):
        """One answer, which tells whose it is."""

    def asked(files):
        for path, calls in files.items():
            count = sum(len(next(iter(call.inputs.values()))) for call in calls)
            answers = Answers([Answer({}, count / 100)])
            answers.file = path.name
            yield answers

    def written(judge, kind, answers):
        right = translate(translator, judge.texts)
        change = changed.get(getattr(answers, "file", ""), lambda texts: texts)
        return list(zip(change(list(right.texts)), right.scores, strict=True))

    monkeypatch.setattr(quality, "ask", lambda *_: [])
    monkeypatch.setattr(quality, "ask_in_fresh_process", lambda files: list(asked(files)))
    monkeypatch.setattr(quality.TextJudge, "_written", written)
    monkeypatch.setattr(exporter, "make_servable", lambda *_: translator)
    monkeypatch.setattr(exporter.RunDirectory, "servable", lambda *_: translator)
    monkeypatch.setattr(type(translator.model), "transpose_output", lambda _: None)
    return changed
