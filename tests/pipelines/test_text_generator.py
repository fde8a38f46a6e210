"""Tests of text_generator: language models from text to text, in every artefact."""

import shutil

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from keras_transformer.cli.app import app
from keras_transformer.decoding import GenerationOptions, generate
from keras_transformer.errors import InputError
from keras_transformer.export import runtime
from keras_transformer.export.runtime import load
from keras_transformer.export.saved_model import export_saved_model
from keras_transformer.export.tflite.convert import convert
from keras_transformer.layers.caches import writing_slices
from keras_transformer.models import Gpt, GptConfig
from keras_transformer.pipelines.tasks import TaskSettings
from keras_transformer.pipelines.text_generator import TextGenerator
from keras_transformer.text import (
    BytePairTokenizer,
    CharacterTokenizer,
    learn_byte_pairs,
    learn_characters,
)
from keras_transformer.training.run.run_directory import RunDirectory

LINES = ["the cat sat on the mat", "the dog saw the cat", "on and on\n", "größe"] * 3
PROMPTS = ["the cat", "", "on", "the dog saw the cat and the mat"]
OPTIONS = {
    "greedy": GenerationOptions(max_length=6),
    "beam": GenerationOptions(max_length=5, beam_size=3, num_hypotheses=2),
    "sample": GenerationOptions(max_length=6, temperature=1.0, num_hypotheses=2, seed=5),
}


def make_tokenizer(kind):
    if kind == "characters":
        return CharacterTokenizer(learn_characters(LINES))
    return BytePairTokenizer(*learn_byte_pairs(LINES, 275))


@pytest.fixture(scope="module")
def model_of():
    """A model for a tokeniser, with weights large enough to write something."""

    def make(tokenizer, **options):
        keras.utils.set_random_seed(2)
        fields = {"num_layers": 1, "num_heads": 2, "d_model": 16, "d_ff": 24, "max_length": 24}
        model = Gpt(GptConfig(len(tokenizer), **{**fields, "positions": "rotary", **options}))
        for weight in model.trainable_variables:
            if len(weight.shape) > 1:
                noise = np.random.default_rng(len(weight.path)).normal(size=weight.shape)
                weight.assign(0.4 * noise)
        return model

    return make


@pytest.mark.parametrize("kind", ["characters", "byte pairs"])
def test_text_goes_on_behind_its_prompt(model_of, kind):  # M23
    tokenizer = make_tokenizer(kind)
    model = model_of(tokenizer)
    writer = TextGenerator(model, tokenizer, OPTIONS["greedy"])
    outputs = writer.call("serving_default", text=PROMPTS)
    for prompt, text, score in zip(PROMPTS, outputs["text"], outputs["score"], strict=True):
        ids = tokenizer.tokenize([prompt]).to_list()[0][-23:] or [model.config.begin_id]
        new, value = generate(model, np.array([ids], "int32"), OPTIONS["greedy"])
        whole = tokenizer.detokenize(np.array([[*ids, *np.array(new)[0]]], "int32"))
        assert text == whole.numpy()[0]
        assert score == pytest.approx(float(value[0]), abs=1e-4)
        if len(ids) < 23:  # all of the prompt was read
            assert text.startswith(prompt.encode()) and len(text) > len(prompt)


@pytest.mark.parametrize(
    ("search", "files"),
    # A SavedModel holds the very graphs that are called here; one search is enough for it.
    [("greedy", ("saved_model", "model.tflite")), ("beam", ("model.tflite",))],
)
def test_every_artefact_writes_the_same(model_of, tmp_path, monkeypatch, search, files):
    tokenizer = make_tokenizer("byte pairs")
    writer = TextGenerator(model_of(tokenizer), tokenizer, OPTIONS[search])
    kind = "stream" if search == "greedy" else "draft"
    names = ["translate", "tokenize", f"{kind}_start", f"{kind}_step"]
    monkeypatch.setattr(runtime, "_check_signatures", lambda *_: None)  # these are enough here
    if "saved_model" in files:
        export_saved_model(writer, tmp_path / "saved_model", names)
    with writing_slices():
        again = TextGenerator(writer.model, tokenizer, OPTIONS[search])
        export_saved_model(again, tmp_path / "l", names)
    content = convert(tmp_path / "l", names, tokenizer.custom_ops)
    (tmp_path / "model.tflite").write_bytes(content)
    wanted = writer.call("translate", text=PROMPTS)
    for file in files:
        artefact = load(tmp_path / file)
        got = artefact.call("translate", text=np.array(PROMPTS, object))
        assert got["text"].tolist() == wanted["text"].tolist()
        np.testing.assert_allclose(got["score"], wanted["score"], atol=1e-4)
        pieces = list(artefact._write(kind, PROMPTS[0]))
        assert pieces[0].startswith(PROMPTS[0])
        if search == "greedy":
            assert "".join(pieces) == wanted["text"][0, 0].decode("utf-8", "replace")


def test_a_score_is_that_of_what_follows_the_prompt(model_of):
    tokenizer = make_tokenizer("characters")
    writer = TextGenerator(model_of(tokenizer), tokenizer)
    whole = writer.call("score", text=[""], target=["the"])
    parts = [writer.call("score", text=[a], target=[b]) for a, b in (("", "t"), ("t", "he"))]
    # An empty prompt is the begin token, which a prompt that is not empty lacks.
    assert whole["tokens"].tolist() == [3]
    assert parts[1]["tokens"].tolist() == [2]
    step = writer.call("next_token", text=["t"], target=[""])["probabilities"][0]
    after = writer.call("next_token", text=["t"], target=["h"])["probabilities"][0]
    ids = tokenizer.tokenize(["he"]).to_list()[0]
    total = np.log(step[ids[0]]) + np.log(after[ids[1]])
    assert parts[1]["score"][0] == pytest.approx(total, abs=1e-4)


def test_a_prompt_beyond_the_context_is_reported(model_of):
    tokenizer = make_tokenizer("characters")
    writer = TextGenerator(model_of(tokenizer), tokenizer)
    cut = writer.call("tokenize", text=["a" * 23, "a" * 24])["truncated"]
    assert cut.tolist() == [False, True]


@pytest.fixture(scope="module")
def run(model_of, tmp_path_factory):
    """The folder of a run, what was loaded from it, and what its model makes of two prompts."""
    path = tmp_path_factory.mktemp("language_model") / "run"
    tokenizer = make_tokenizer("byte pairs")
    model = model_of(tokenizer)
    RunDirectory.create(
        path, model.config, None, tokenizer, [], settings=TaskSettings("causal-lm"), weights=model
    )
    options = GenerationOptions(max_length=4)
    wanted = TextGenerator(model, tokenizer, options).run(["the", "on"])[0]
    return path, load(path, options, gives="text"), wanted


def test_a_run_of_a_language_model_goes_on_with_text(run):
    path, writer, wanted = run
    assert writer.run(["the", "on"])[0] == wanted
    with pytest.raises(InputError, match="gives score and text, and no embedding"):
        load(path, gives="embedding")


def test_the_command_goes_on_with_prompts(run, tmp_path, monkeypatch):
    path, writer, hypotheses = run
    monkeypatch.chdir(tmp_path)
    shutil.copytree(path, "run")
    asked = []

    def loaded(*arguments, **options):
        asked.append((*arguments, options))
        return writer  # once for all, for its graphs take the time

    monkeypatch.setattr(runtime, "load", loaded)
    run = CliRunner().invoke
    arguments = ["generate", "--model", "run", "--max-length", "4"]
    result = run(app, [*arguments, "--prompt", "the", "--prompt", "on"])
    assert result.exit_code == 0
    (model, options, jit_compile, more) = asked[0]
    assert (str(model), jit_compile, more) == ("run", False, {"gives": "text"})
    assert options == writer.options
    wanted = [texts[0] for texts in hypotheses]
    assert result.stdout == "".join(f"{text}\n" for text in wanted)
    assert run(app, [*arguments, "--prompt", "the", "--stream"]).stdout == f"{wanted[0]}\n"
    (tmp_path / "in.txt").write_text("the\non\n")
    assert run(app, [*arguments, "--input", "in.txt", "--output", "out.txt"]).exit_code == 0
    assert (tmp_path / "out.txt").read_text() == result.stdout
    for more, message in (
        ([], "Give prompts by --prompt or by --input"),
        (["--prompt", "a" * 24], "Prompt 1 is longer than the model's context"),
        (["--input", "nothing.txt"], "no file nothing.txt"),
    ):
        error = run(app, [*arguments, *more]).exception
        assert isinstance(error, InputError) and message in str(error)
