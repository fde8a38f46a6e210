"""Tests of keras_transformer.cli.translate: the commands that use a trained model.

Also: cli.evaluate, cli.export, cli.generate.
"""

import dataclasses
import functools
import gzip
import json
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from fixtures_cli import assert_refused, bad, call, exported, here, original, trained

from keras_transformer.artefacts import bulk as translation
from keras_transformer.decoding import GenerationOptions
from keras_transformer.export import runtime
from keras_transformer.models import attention_maps
from keras_transformer.models.config import BEGIN_ID, END_ID

__all__ = ["bad", "call", "exported", "here", "original", "trained"]

# --- translate and evaluate -----------------------------------------------------------------------

LINES = "red cat\n\ngrey tree sun\n" + "dog " * 100 + "\n"


@pytest.fixture(scope="module")
def models(trained, exported):
    return {
        "run": trained.run.path,
        "savedmodel": exported.paths["savedmodel"],
        "tflite": exported.paths["tflite"],
    }


@pytest.fixture(scope="module", autouse=True)
def _loaded_once(models):
    """Load each of them once, so that its graphs are traced once."""
    load, ours = runtime.load, set(models.values())
    cached = functools.cache(load)

    def once(path, *args, **more):
        return (cached if path in ours else load)(path, *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "load", once)
        yield


def test_translate_gives_a_line_for_a_line_from_every_model(here, call, models):  # M19, X01
    Path("in.txt").write_text(LINES)
    outputs = {}
    for name, path in models.items():
        status, output, error = call(
            ["translate", "--model", path, "--input", "in.txt", "--output", f"{name}.txt"]
        )
        assert (status, output) == (0, "")
        assert error == ("warning: 1 of 4 lines were longer than the model takes and were cut: 4\n")
        outputs[name] = Path(f"{name}.txt").read_text()
    assert outputs["run"].count("\n") == 4
    assert outputs["run"].splitlines()[1] == ""
    assert outputs["run"].splitlines()[0].isupper()
    assert outputs["savedmodel"] == outputs["tflite"] == outputs["run"]


def test_translate_reads_and_writes_the_standard_streams(call, models, monkeypatch):
    command = ["translate", "--model", models["tflite"]]
    status, whole, error = call([*command, "--batch-tokens", "12"], LINES.encode())
    assert status == 0
    assert "were cut: 4" in error
    few = functools.partial(translation.translate_lines, lines_at_once=3)
    monkeypatch.setattr(translation, "translate_lines", few)
    assert call([*command, "--input", "-", "--output", "-"], LINES.encode())[1:] == (whole, error)
    assert call(command, b"red cat\r\n")[1] == whole.splitlines()[0] + "\n"
    assert call(command, b"")[1:] == ("", "")


def test_translate_reads_packed_text_and_replaces_a_file(here, call, models):
    Path("in.gz").write_bytes(gzip.compress(b"red cat\n"))
    Path("out.txt").write_text("old\n" * 9)
    options = ["--input", "in.gz", "--output", "out.txt"]
    assert call(["translate", "--model", models["tflite"], *options])[0] == 0
    assert Path("out.txt").read_text().count("\n") == 1


def test_evaluate_prints_scores_of_a_run_and_of_artefacts(call, trained, models):  # E02, M19
    text = ["--source", trained.valid.source, "--target", trained.valid.target]
    values = {}
    for name, path in models.items():
        status, output, error = call(["evaluate", "--model", path, *text, "--json"])
        assert (status, error) == (0, "")
        values[name] = json.loads(output)
        assert list(values[name]) == ["bleu", "chrf", "exact_match", "perplexity"]
        assert output.count("\n") == 1
    expected = trained.result.best["perplexity"]
    assert values["run"].pop("perplexity") == pytest.approx(expected, rel=1e-5)
    assert values["savedmodel"].pop("perplexity") is None
    assert values["tflite"].pop("perplexity") is None
    assert values["savedmodel"] == values["tflite"] == values["run"]
    assert values["run"]["chrf"] > 50

    for name, perplexity in (("run", f"{expected:.2f}"), ("tflite", "-")):
        status, output, _ = call(["evaluate", "--model", models[name], *text])
        assert status == 0
        rows = [line.split() for line in output.splitlines()]
        assert rows[0][:2] == ["BLEU", f"{values['run']['bleu']:.2f}"]
        assert "tok:13a" in rows[0][2] and "version:" in rows[0][2]
        assert rows[1][:2] == ["chrF", f"{values['run']['chrf']:.2f}"]
        assert rows[2] == ["exact", "match", f"{values['run']['exact_match']:.2f}", "%"]
        assert rows[3][:2] == ["perplexity", perplexity]


def test_evaluate_ignores_case_if_asked(call, trained, models):
    # The sources are right but for their case.
    source = trained.valid.source
    command = ["evaluate", "--model", models["tflite"], "--source", source, "--target", source]
    with_case, without = (
        json.loads(call([*command, "--json", *more])[1]) for more in ([], ["--lowercase"])
    )
    assert with_case["exact_match"] == 0 < without["exact_match"]
    assert with_case["chrf"] < without["chrf"]
    assert "tok:char" in call([*command, "--tokenize", "char"])[1]


def test_evaluate_says_what_was_cut_and_left_out(here, call, models):  # X01
    Path("s").write_text("red cat\n" + "dog " * 100 + "\n\n")
    Path("t").write_text("RED CAT\nDOG\nX\n")
    status, _, error = call(
        ["evaluate", "--model", models["run"], "--source", "s", "--target", "t"]
    )
    assert status == 0
    assert "1 lines were longer than the model takes and were cut" in error
    assert "perplexity leaves out 2 pairs that are too long or empty" in error


# --- export and demo ------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [False, True])
def test_export_hands_over_the_run(call, models, monkeypatch, more):
    from keras_transformer import export

    seen = []
    monkeypatch.setattr(export, "export_run", lambda *args, **kwargs: seen.append((args, kwargs)))
    options = (
        "--beam-size 3 --jit-compile --name it --keep 2 --tflite int8,float32 "
        "--max-quality-loss 0.5 --source-language en --target-language de"
    )
    command = ["export", "--model", models["run"], "--output", "out"]
    status, _, _ = call([*command, *options.split()] if more else command)
    (((run, output, _, generation), given),) = seen
    assert status == 0
    assert (run.path, output) == (models["run"], Path("out"))
    assert generation == (GenerationOptions(beam_size=3) if more else None)
    default = {
        "jit_compile": False,
        "name": None,
        "keep": 0,
        "precisions": ["float32", "float16", "int8"],
        "max_quality_loss": 1.0,
        "source_language": None,
        "target_language": None,
    }
    asked = {
        "jit_compile": True,
        "name": "it",
        "keep": 2,
        "precisions": ["int8", "float32"],
        "max_quality_loss": 0.5,
        "source_language": "en",
        "target_language": "de",
    }
    assert given == (asked if more else default)


# --- Options of generation ------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["translate", "evaluate", "export"])
def test_every_option_of_generation_is_in_the_help(call, command):
    _, output, _ = call(f"{command} --help")
    for field in dataclasses.fields(GenerationOptions):
        assert f"  --{field.name.replace('_', '-')} <" in output


def test_options_reach_the_model(call, models, trained, monkeypatch):
    seen, lite = [], runtime.load(models["tflite"])
    monkeypatch.setattr(runtime, "load", lambda *args, gives=None: seen.append(args) or lite)
    text = ["--source", trained.valid.source, "--target", trained.valid.target, "--json"]
    some = "--temperature 0.5 --top-k 7 --top-p 0.9 --min-p 0.1 --seed -3 --num-hypotheses 2"
    more = "--min-length 2 --max-length 20 --repetition-penalty 1.5 --no-repeat-ngram 3"
    assert call(["evaluate", "--model", models["tflite"], *text, *some.split()])[0] == 0
    translate = ["translate", "--model", models["tflite"], *more.split(), "--jit-compile"]
    assert call([*translate, "--beam-size", "5", "--length-penalty", "0"], b"red cat\n")[0] == 0
    assert call(["translate", "--model", models["tflite"]], b"red cat\n")[0] == 0
    assert [args[1:] for args in seen] == [
        (GenerationOptions(1, 2, 0.6, 0.5, 7, 0.9, 0.1, -3), False),
        (
            GenerationOptions(
                beam_size=5,
                length_penalty=0,
                min_length=2,
                max_length=20,
                repetition_penalty=1.5,
                no_repeat_ngram=3,
            ),
            True,
        ),
        (None, False),
    ]


def test_translate_writes_several_hypotheses_with_number_and_score(call, models):  # D05
    options = GenerationOptions(beam_size=4, num_hypotheses=2)
    status, output, _ = call(
        ["translate", "--model", models["run"], "--beam-size", "4", "--num-hypotheses", "2"],
        LINES.encode(),
    )
    assert status == 0
    rows = [line.split("\t") for line in output.split("\n")]
    assert rows.pop() == [""]
    expected = translation.translate(
        runtime.load(models["run"], options), LINES.removesuffix("\n").split("\n")
    )
    flat = [(i, *one) for i, some in enumerate(expected.hypotheses, start=1) for one in some]
    assert [(int(number), text) for number, _, text in rows] == [(i, text) for i, text, _ in flat]
    assert [float(x) for _, x, _ in rows] == pytest.approx([x for _, _, x in flat], abs=2e-6)
    assert [number for number, *_ in rows] == ["1", "1", "2", "3", "3", "4", "4"]
    assert rows[2] == ["2", "0.000000", ""]


def test_translate_shows_the_alignment(here, call, models):  # D08
    _, plain, _ = call(["translate", "--model", models["tflite"]], LINES.encode())
    outputs = []
    for name in ("run", "tflite"):
        command = ["translate", "--model", models[name], "--show-alignment", "--batch-tokens", "9"]
        status, output, error = call(command, LINES.encode())
        assert status == 0
        assert "were cut: 4" in error
        outputs.append([json.loads(line) for line in output.splitlines()])
    for one, other in zip(*outputs, strict=True):
        assert one.pop("score") == pytest.approx(other.pop("score"), abs=1e-4)
        assert one == other
    assert [row["text"] for row in outputs[0]] == plain.split("\n")[:4]
    for line, row in zip(LINES.split("\n")[:4], outputs[0], strict=True):
        assert row["source_pieces"][-1] == row["target_pieces"][-1] == "[EOS]"
        assert len(row["alignment"]) == len(row["target_pieces"])
        assert set(row["alignment"]) <= set(range(len(row["source_pieces"])))
        for side, text in (("source_pieces", line), ("target_pieces", row["text"])):
            joined = "".join(row[side][:-1]).replace("##", "")
            assert text.replace(" ", "").startswith(joined)
    # A file that is alone has the names of its pieces inside.
    Path("alone.tflite").write_bytes(models["tflite"].read_bytes())
    command = ["translate", "--model", "alone.tflite", "--show-alignment"]
    assert call(command, b"red cat\n")[0] == 0
    # Without them there is nothing to name the pieces by.
    with zipfile.ZipFile("alone.tflite", "a") as archive:
        end = archive.infolist()[0].header_offset
    Path("alone.tflite").write_bytes(models["tflite"].read_bytes()[:end])
    status, _, error = call(command, b"red cat\n")
    assert (status, error.count("\n")) == (2, 1)
    assert "alone.tflite holds no vocab.txt" in error


def test_translate_streams_what_it_otherwise_writes_at_once(call, models):
    lines = "red cat\n\ncafé. naïve tree\n"
    expected = call(["translate", "--model", models["run"]], lines.encode())[1]
    assert expected.count("\n") == 3
    for path in models.values():
        result = call(["translate", "--model", path, "--stream"], lines.encode())
        assert result == (0, expected, "")


# --- score ----------------------------------------------------------------------------------------


def test_score_is_the_same_from_every_model(here, call, models):  # E03
    sources = ["red cat", "", "grey tree sun", "dog " * 100]
    targets = ["RED CAT", "X", "GREY CAT", "DOG"]
    Path("s").write_text("".join(f"{line}\n" for line in sources))
    Path("t.gz").write_bytes(gzip.compress("".join(f"{line}\n" for line in targets).encode()))
    expected = runtime.load(models["run"]).score(sources, targets)
    for path in models.values():
        command = ["score", "--model", path, "--source", "s", "--target", "t.gz"]
        status, output, error = call([*command, "--batch-tokens", "12"])
        assert status == 0
        rows = [line.split("\t") for line in output.splitlines()]
        scores, tokens = [float(x) for x, _ in rows], [int(n) for _, n in rows]
        np.testing.assert_allclose(scores, expected[0], rtol=1e-4, atol=1e-4)
        assert tokens == expected[1].tolist()
        warning, total = error.splitlines()
        assert warning.endswith("lines were longer than the model takes and were cut: 4")
        perplexity = math.exp(-sum(scores) / sum(tokens))
        assert total == f"4 pairs, perplexity {perplexity:.2f} a token"
    assert call([*command, "--output", "out.txt"])[:2] == (0, "")
    assert Path("out.txt").read_text() == output


# --- attention ------------------------------------------------------------------------------------


def test_attention_writes_the_maps_of_the_model(here, call, models):  # C18
    command = ["attention", "--model", models["run"], "--text", "red naïve cat"]
    status, output, error = call([*command, "--output", "maps.json"])
    assert (status, output) == (0, "")
    translator = runtime.load(models["run"])
    ((target,),), _ = translator.run(["red naïve cat"])
    assert error == f"maps.json: 'red naïve cat' -> {target!r}\n"
    fields = json.loads(Path("maps.json").read_text("utf-8"))
    sources, targets = (fields.pop(f"{side}_pieces") for side in ("source", "target"))
    assert (sources[-1], targets[0]) == ("[EOS]", "[BOS]")
    ids = translator.tokenizer.tokenize(["red naïve cat", target]).to_list()
    names = translator.tokenizer.vocabulary
    assert sources == [names[i] for i in [*ids[0], END_ID]]
    assert targets == [names[i] for i in [BEGIN_ID, *ids[1]]]
    inputs = {
        "source_ids": np.array([[*ids[0], END_ID]]),
        "target_ids": np.array([[BEGIN_ID, *ids[1]]]),
    }
    expected = attention_maps(translator.model, inputs)
    assert set(fields) == set(expected) == {"encoder", "decoder", "cross"}
    for name, blocks in expected.items():
        maps = np.array(fields[name])  # blocks, heads, rows, columns
        np.testing.assert_allclose(maps, np.array(blocks)[:, 0], atol=1e-5)
        np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-5)

    # A target may be given, and a picture holds one kind.
    assert call([*command, "--output", "maps.json"])[0] == 2
    more = ["--target", "CAT", "--overwrite", "--output", "maps.json"]
    assert "-> 'CAT'" in call([*command, *more])[2]
    assert json.loads(Path("maps.json").read_text("utf-8"))["target_pieces"][0] == "[BOS]"
    pictures = set()
    for kind in ("encoder", "decoder", "cross"):
        options = ["--target", "CAT", "--kind", kind, "--layer", "1", "--output", f"{kind}.png"]
        assert call([*command, *options])[0] == 0
        picture = tf.io.decode_png(Path(f"{kind}.png").read_bytes()).numpy()
        assert picture.ndim == 3 and picture.std() > 0
        pictures.add(picture.tobytes())
    assert len(pictures) == 3


@pytest.mark.parametrize("cut", ["text", "target"])
def test_attention_says_what_was_cut(here, call, models, cut):  # X01
    given = {"text": "red cat", "target": "RED CAT", cut: "dog " * 100}
    command = ["attention", "--model", models["run"], "--output", "maps.json"]
    status, _, error = call([*command, "--text", given["text"], "--target", given["target"]])
    assert status == 0
    warning = f"warning: the {cut} is longer than the model takes and was cut\n"
    assert error.startswith(warning) and error.count("warning") == 1


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("translate --model run --beam-size 2 --temperature 1", "can't be combined"),
        ("translate --model run --num-hypotheses 2", "num_hypotheses can't exceed beam_size=1"),
        ("translate --model run --top-k 3", "top_k only matters for sampling"),
        ("translate --model run --temperature nan", "temperature must be a finite number"),
        ("translate --model run --min-length 9 --max-length 3", "exceeds max_length=3"),
        ("evaluate --model run --source short --target short --beam-size 0", "beam_size must be"),
        ("export --model run --output new --top-p 0.5", "top_p only matters for sampling"),
        ("export --model run --output new --tflite int4", "There is no precision 'int4'"),
        ("export --model run --output new --tflite float32,", "There is no precision ''"),
        ("export --model run --output new --name ../x", "'../x' is not a valid name for a model"),
        ("export --model run --output short", "short is a file; give the name of a folder."),
        ("export --model run --output folder", "folder exists and is not an export"),
        ("translate --model broken.tflite --beam-size 2", "broken.tflite is not a run"),
        ("translate --model model.ids.tflite --jit-compile", "model.ids.tflite is not a run"),
        (
            "evaluate --model broken.tflite --source short --target short --temperature 1",
            "Give them to `export`",
        ),
        ("translate --model run --stream --output new", "--stream writes plain text"),
        ("translate --model run --stream --show-alignment", "--stream writes plain text"),
        (
            "translate --model run --show-alignment --beam-size 2 --num-hypotheses 2",
            "--show-alignment shows one hypothesis",
        ),
        ("score --model nothing --source short --target short", "no file or folder nothing"),
        ("score --model run --source short --target nothing", "There is no file nothing."),
        ("score --model run --source short --target empty", "empty has 0 lines, but short"),
        ("score --model run --source short --target short --output folder", "folder is a folder"),
        ("attention --model folder --text x --output a.png", "folder is not a run folder."),
        ("attention --model model.ids.tflite --text x --output a.png", "is not a run folder."),
        ("attention --model run --text x --output a.txt", "a.txt has to end in .png or .json."),
        ("attention --model run --text x --output a.png --layer 2", "no layer 2; the model has 1"),
        ("attention --model run --text x --output a.png --layer -1", "There is no layer -1"),
        ("attention --model fresh --text x --output a.png", "fresh has no weights yet"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(bad, call, arguments, message):
    assert_refused(bad, call, arguments, message)


def test_a_stream_of_several_hypotheses_is_refused_in_one_line(bad, call):
    arguments = "translate --model run --stream --beam-size 2 --input short"
    assert_refused(bad, call, arguments, "Streaming follows one hypothesis")


def test_a_kind_of_attention_that_does_not_exist_is_refused(here, call):
    status, output, error = call("attention --model x --text x --output a.png --kind self")
    assert (status, output) == (2, "")
    assert "self" in error.splitlines()[-1]
