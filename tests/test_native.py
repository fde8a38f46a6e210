"""The artefacts run without Python: by C programs, over TensorFlow's and LiteRT's C interfaces."""

import importlib.util
import os
import random
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from fixtures_export import TEXTS, exported, trained, translator

from keras_transformer.artefacts.bulk import translate
from keras_transformer.decoding import GenerationOptions
from keras_transformer.export.saved_model import export_saved_model
from keras_transformer.export.tflite.convert import convert
from keras_transformer.pipelines.translator import Translator
from keras_transformer.text import WordPieceTokenizer

__all__ = ["exported", "trained", "translator"]

SOURCES = Path(__file__).parent / "native"
LINES = [text for text in TEXTS if "\n" not in text]
# Special tokens, marks of continuation, white space of all widths, and characters of 1 to 4 bytes.
PARTS = [
    *["red", "blue", "cat", "café.", "naïve", "e", "d", "#", "##", "##d", "##ed", "猫", "\0"],
    *["[PAD]", "[UNK]", "[BOS]", "[EOS]", "[", "]", "\N{GRINNING FACE}", "\N{COMBINING DIAERESIS}"],
    *[" ", "  ", "\t", "\v", "\f", "\r", "\x1c", "\x85", "\N{NO-BREAK SPACE}", "\u2028", "\u3000"],
]


def _compiler():
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        pytest.fail("There is no C compiler (cc, gcc or clang); `make test` needs one.")
    return found


def _build(folder, name, *options):
    program = folder / name
    warnings = ["-Wall", "-Wextra", "-Werror"]
    command = [_compiler(), "-std=gnu11", "-O2", *warnings, SOURCES / f"{name}.c", "-o", program]
    built = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return program


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    libraries = Path(tf.sysconfig.get_lib())
    return _build(
        tmp_path_factory.mktemp("native"),
        "saved_model",
        *["-isystem", tf.sysconfig.get_include(), f"-L{libraries}", f"-Wl,-rpath,{libraries}"],
        *["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"],
    )


@pytest.fixture(scope="module")
def litert(tmp_path_factory):
    libraries = _folder_of("ai_edge_litert")
    return _build(
        tmp_path_factory.mktemp("native"),
        "litert",
        *[f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-l:libLiteRt.so"],
    )


def _folder_of(package):
    return Path(importlib.util.find_spec(package).origin).parent


@pytest.fixture(scope="module")
def text_ops():
    folder = _folder_of("tensorflow_text") / "python" / "ops"
    return [
        folder / f"_{name}.so" for name in ("fast_wordpiece_tokenizer", "whitespace_tokenizer_v2")
    ]


def _run(program, *arguments, lines=()):
    return subprocess.run(
        [program, *arguments],
        input="".join(f"{line}\n" for line in lines).encode(),
        capture_output=True,
        check=False,
    )


def _lines(*command, lines):
    done = _run(*command, lines=lines)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().removesuffix("\n").split("\n")


def _fuzzed(count):
    rng = random.Random(7)
    return ["".join(rng.choices(PARTS, k=rng.randint(0, 12))) for _ in range(count)]


# --- The programs ---------------------------------------------------------------------------------


def test_tensorflow_without_python_gives_the_texts_and_scores_of_the_model(
    saved_model, text_ops, exported, translator
):
    printed = _lines(saved_model, exported.paths["savedmodel"] / "1", *text_ops, lines=LINES)
    scores, texts = zip(*(line.split("\t") for line in printed), strict=True)
    expected = translate(translator, LINES)
    assert list(texts) == expected.texts
    np.testing.assert_allclose(np.array(scores, float), expected.scores, rtol=1e-4, atol=1e-4)


def test_litert_without_python_gives_the_texts_of_the_model(litert, exported, translator):
    model, vocabulary = exported.paths["ids_tflite"], exported.folder / "vocab.txt"
    assert _lines(litert, model, vocabulary, lines=LINES) == translate(translator, LINES).texts


def test_litert_without_python_gives_the_best_of_several_hypotheses(
    litert, exported, trained, tmp_path
):
    options = GenerationOptions(beam_size=3, num_hypotheses=2)
    translator = Translator(trained.run.load_model(), trained.run.tokenizer(), options)
    export_saved_model(translator, tmp_path / "1", ["ids"])
    model = tmp_path / "model.ids.tflite"
    model.write_bytes(convert(tmp_path / "1", ["ids"], frozenset()))
    texts, _ = translator.run(LINES)
    printed = _lines(litert, model, exported.folder / "vocab.txt", lines=LINES)
    assert printed == [best for best, _ in texts]


def test_the_c_program_cuts_text_as_the_graph_does(litert, exported, trained):
    tokenizer = trained.run.tokenizer()
    texts = _fuzzed(2000)
    expected = [" ".join(map(str, ids)) for ids in tokenizer.tokenize(texts).to_list()]
    assert _lines(litert, "--tokenize", exported.folder / "vocab.txt", lines=texts) == expected
    assert sum("1" in line.split() for line in expected) > 100  # unknown words
    assert sum("1" not in line.split() for line in expected) > 100


def test_the_c_program_joins_pieces_as_the_graph_does(litert, exported, trained):
    tokenizer = trained.run.tokenizer()
    rng = random.Random(7)
    rows = [[rng.randrange(len(tokenizer)) for _ in range(8)] for _ in range(500)]
    expected = [text.decode() for text in tokenizer.detokenize(rows).numpy()]
    lines = [" ".join(map(str, row)) for row in rows]
    assert _lines(litert, "--detokenize", exported.folder / "vocab.txt", lines=lines) == expected


def test_marks_of_the_vocabulary_are_no_marks_in_text(litert, tmp_path):
    tokenizer = WordPieceTokenizer(
        ["[PAD]", "[UNK]", "[BOS]", "[EOS]", *"aP#[]", "##a", "##P", "##]", "##", "###", "##[UNK]"]
    )
    tokenizer.save(tmp_path / "vocab.txt")
    rng = random.Random(7)
    parts = [*"aP#[] ", "[UNK]", "[PAD]", "##", "###"]
    texts = ["".join(rng.choices(parts, k=rng.randint(0, 6))) for _ in range(2000)]
    expected = [" ".join(map(str, ids)) for ids in tokenizer.tokenize(texts).to_list()]
    assert _lines(litert, "--tokenize", tmp_path / "vocab.txt", lines=texts) == expected


def test_litert_without_python_tells_what_it_needed(litert, exported):
    model, vocabulary = exported.paths["ids_tflite"], exported.folder / "vocab.txt"
    told = _run(litert, "--stats", model, vocabulary, lines=LINES).stderr.decode()
    number = r"([\d.]+)"
    numbers = re.search(
        f"ready after {number} ms with {number} MB; {number} lines, {number} ms each, "
        f"peak {number} MB, {number} MB of its own",
        told,
    )
    assert numbers, told
    _, loaded, lines, _, peak, own = map(float, numbers.groups())
    assert lines == len(LINES)
    assert 1 < loaded <= peak < 500
    assert 1 < own < peak


def test_litert_without_python_keeps_the_weights_of_each_model(litert, exported, tmp_path):
    model, vocabulary = tmp_path / "model.ids.tflite", exported.folder / "vocab.txt"
    model.write_bytes(exported.paths["ids_tflite"].read_bytes())
    expected = _lines(litert, model, vocabulary, lines=LINES)

    def kept():
        command = [litert, "--cache", tmp_path, model, vocabulary]
        assert _lines(*command, lines=LINES) == expected
        return {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.xnnpack")}

    first = kept()
    assert len(first) == 1
    assert kept() == first
    os.utime(model, (0, 0))  # a model that was replaced
    assert len(kept()) == 2


# --- What goes wrong ------------------------------------------------------------------------------


def test_a_saved_model_without_its_ops_is_an_error(saved_model, exported):
    done = _run(saved_model, exported.paths["savedmodel"] / "1", lines=["red"])
    assert done.returncode == 1
    assert b"saved_model: Op type not registered" in done.stderr
    assert not done.stdout


def test_a_folder_without_a_saved_model_is_an_error(saved_model, tmp_path):
    done = _run(saved_model, tmp_path)
    assert done.returncode == 1
    assert b"saved_model: Could not find SavedModel" in done.stderr


def test_a_file_that_takes_text_or_is_missing_is_an_error(litert, exported, tmp_path):
    vocabulary = exported.folder / "vocab.txt"
    text = _run(litert, exported.paths["tflite"], vocabulary)
    missing = _run(litert, tmp_path / "no.tflite", vocabulary)
    assert text.returncode == missing.returncode == 1
    assert b"litert: not a model from ids to ids" in text.stderr
    assert b"litert: LiteRT fails to load the model" in missing.stderr


def test_a_folder_that_can_not_be_written_in_options_is_an_error(litert, exported):
    model, vocabulary = exported.paths["ids_tflite"], exported.folder / "vocab.txt"
    done = _run(litert, "--cache", 'a"b', model, vocabulary)
    assert done.returncode == 1
    assert b"litert: --cache can't have quotes or backslashes: a\"b" in done.stderr


@pytest.mark.parametrize("content", [None, "", "red\nblue\n", "[PAD]\n[UNK]\n[BOS]\n"])
def test_a_file_that_is_no_vocabulary_is_an_error(litert, tmp_path, content):
    path = tmp_path / "vocab.txt"
    if content is not None:
        path.write_text(content)
    done = _run(litert, "--tokenize", path, lines=["red"])
    assert done.returncode == 1
    assert str(path) in done.stderr.decode()


def test_a_machine_without_a_compiler_is_told_so(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.fail.Exception, match="no C compiler"):
        _compiler()
