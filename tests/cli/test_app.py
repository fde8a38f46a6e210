"""Tests of keras_transformer.cli.app and keras_transformer.cli.doctor.

The commands that train are tested in test_cli_training.py, those that use what was trained in
test_cli_generation.py.

Also: cli.checks, cli.doctor, cli.vocab.
"""

import gzip
import importlib.metadata
import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fixtures_cli import assert_refused, bad, call, exported, here, original, trained
from fixtures_run import quiet
from rich.console import Console

from keras_transformer import DISTRIBUTION, __version__
from keras_transformer.cli import app as cli
from keras_transformer.cli import doctor
from keras_transformer.text import SPECIAL_TOKENS

__all__ = ["bad", "call", "exported", "here", "original", "trained"]

COMMANDS = [
    *("vocab", "train", "average", "tune", "memory", "flops", "data-service"),
    *("translate", "score", "evaluate", "attention", "export", "demo", "doctor"),
    *("import", "generate", "embed", "classify", "tag", "answer", "fill-mask"),
    *("tokenizers", "explain", "params"),
]


# --- Help -----------------------------------------------------------------------------------------


def test_help_is_quick_and_loads_nothing_heavy():
    code = """
import sys, time
begin = time.perf_counter()
from keras_transformer.cli.app import main
for command in ([], *([name] for name in sys.argv[1].split())):
    sys.argv = ["keras-transformer", *command, "--help"]
    try:
        main()
    except SystemExit as end:
        assert not end.code
    if not command:
        print("seconds", time.perf_counter() - begin)
heavy = {"tensorflow", "keras", "numpy", "tensorboard", "sacrebleu", "ai_edge_litert"}
print("loaded", sorted(heavy & set(sys.modules)))
"""
    seconds = []
    for _ in range(3):  # on a busy machine one run may be slow
        begin = time.perf_counter()
        child = subprocess.run(
            [sys.executable, "-c", code, " ".join(COMMANDS)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "loaded []" in child.stdout
        start_up = time.perf_counter() - begin
        seconds.append(min(start_up, float(re.search(r"seconds (\S+)", child.stdout)[1])))
        if seconds[-1] < 1:
            break
    assert min(seconds) < 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(call, command):
    status, output, _ = call(f"{command} --help")
    assert status == 0
    assert f"keras-transformer {command} [OPTIONS]" in output.splitlines()[0]
    options = re.findall(r"^  (?:-\w, )?(--[\w-]+)(.*(?:\n {3,}.*)*)", output, re.MULTILINE)
    assert "--help" in dict(options)
    for name, text in options:
        explanation = re.sub(r"<[^>]*>|\[[^]]*\]", "", text).split()
        assert len(explanation) > 1 and explanation[-1].endswith("."), f"{name} is not explained"
    assert command in call("--help")[1]


def test_no_command_shows_the_help(call):
    status, output, error = call("")
    assert status == 2
    assert all(name in output + error for name in COMMANDS)


def test_the_command_is_installed_under_its_name():
    (entry,) = importlib.metadata.entry_points(name="keras-transformer", group="console_scripts")
    assert entry.load() is cli.main
    child = subprocess.run(
        [sys.executable, "-m", "keras_transformer", "vocab", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Learn a WordPiece vocabulary" in child.stdout


def test_short_options_and_the_version(call):
    assert call("--version") == (0, f"keras-transformer {__version__}\n", "")
    for command in ("", "train", "fill-mask"):
        assert call(f"{command} -h") == call(f"{command} --help")
    assert "-h, --help" in call("-h")[1]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(tmp_path, shell):
    command = str(Path(sys.executable).parent / "keras-transformer")
    environment = {**os.environ, "HOME": str(tmp_path), "SHELL": f"/bin/{shell}"}

    def run(*arguments, **more):
        child = subprocess.run(
            [command, *arguments],
            env=environment | more,
            capture_output=True,
            text=True,
            check=True,
        )
        return child.stdout

    for typed, wanted in (("tr", ["train", "translate"]), ("vocab --ov", ["--overwrite"])):
        words = f"keras-transformer {typed}"
        found = run(
            _KERAS_TRANSFORMER_COMPLETE=f"complete_{shell}",
            COMP_WORDS=words,
            COMP_CWORD=str(len(typed.split())),
            _TYPER_COMPLETE_ARGS=words,
            _TYPER_COMPLETE_FISH_ACTION="get-args",
            _TYPER_COMPLETE_WORD_TO_COMPLETE=typed.split()[-1],
        )
        assert all(name in found for name in wanted)
        assert "doctor" not in found


# --- vocab ----------------------------------------------------------------------------------------


def test_vocab_learns_from_all_files(here, call):  # K10
    (here / "one.txt").write_text("ab ab cd\n" * 3)
    (here / "two.gz").write_bytes(gzip.compress(b"ef ef\n" * 3))
    status, output, error = call("vocab --input one.txt --input two.gz --output v.txt --size 18")
    assert (status, output) == (0, "")
    pieces = (here / "v.txt").read_text().splitlines()
    assert pieces[:4] == list(SPECIAL_TOKENS)
    assert len(pieces) == 18
    assert {"ab", "ef"} <= set(pieces)
    assert "v.txt: 18 pieces" in error


def test_vocab_says_if_the_text_gives_fewer(here, call):
    (here / "one.txt").write_text("ab ab\n")
    status, _, error = call("vocab --input one.txt --output v.txt --size 12000")
    assert status == 0
    assert "The text gives only 9 pieces, 12,000 were asked for." in error


def test_vocab_options_reach_the_learner(here, call):  # K04
    (here / "t").write_text("hug " * 10 + "pug " * 5 + "pun " * 12 + "bun " * 4 + "hugs " * 5)
    for score, first in (("likelihood", "##gs"), ("frequency", "##ug")):
        assert call(f"vocab --input t --output {score} --size 19 --score {score}")[0] == 0
        assert (here / score).read_text().splitlines()[-1] == first
    assert call("vocab --input t --output v1 --size 99 --min-frequency 11")[0] == 0
    pieces = (here / "v1").read_text().splitlines()
    assert "pug" not in pieces and "hug" in pieces
    assert call("vocab --input t --output v2 --size 99 --split-digits")[0] == 0
    assert "7" in (here / "v2").read_text().splitlines()


def test_vocab_replaces_a_file_only_if_asked(here, call):
    (here / "t").write_text("ab ab\n")
    (here / "v").write_text("old")
    assert call("vocab --input t --output v")[0] == 2
    assert (here / "v").read_text() == "old"
    assert call("vocab --input t --output v --overwrite")[0] == 0
    assert (here / "v").read_text().startswith("[PAD]\n")


# --- doctor ---------------------------------------------------------------------------------------


def test_doctor_says_that_all_is_well(call):
    status, output, _ = call("doctor")
    assert status == 0
    assert importlib.metadata.version("tensorflow") in output
    assert "Keras backend: tensorflow" in output
    assert "device: /physical_device:CPU:0" in output
    assert output.endswith("tf.text works\nEverything that is needed is here.\n")


@pytest.mark.parametrize(("missing", "status"), [("tensorflow-text", 1), ("keras-nlp", 0)])
def test_doctor_says_what_is_missing_and_how_to_get_it(monkeypatch, missing, status):
    ordinary = importlib.metadata.version

    def version(name):
        if name == missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return ordinary(name) if name != "keras-nlp" else "0.32.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    console = quiet()
    assert doctor.report(console) == status
    (line,) = [x for x in console.file.getvalue().splitlines() if x.split()[:1] == [missing]]
    assert line.split()[1] == "missing"
    assert line.rstrip().endswith(doctor.PACKAGES[missing][1])
    assert ("Everything that is needed is here." in console.file.getvalue()) is (status == 0)


def test_hints_of_doctor_are_whole_lines_where_there_is_no_terminal(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setenv("COLUMNS", "40")
    console = Console(file=io.StringIO())
    assert doctor.report(console) == 1
    lines = console.file.getvalue().splitlines()
    for name, (purpose, command) in doctor.PACKAGES.items():
        (line,) = [x for x in lines if x.split()[0] == name]
        assert line.split(maxsplit=2)[1] == "missing"
        assert purpose in line and line.endswith(command)


def test_doctor_says_if_tensorflow_does_not_work(monkeypatch):
    def fail():
        raise ImportError("libcuda is [broken]")
        yield

    monkeypatch.setattr(doctor, "_try_everything", fail)
    console = Console(file=io.StringIO(), width=200)
    assert doctor.report(console) == 1
    assert "does not work here: ImportError('libcuda is [broken]')" in console.file.getvalue()


def test_every_package_that_is_required_is_examined():
    required = {
        re.match(r"[\w-]+", name)[0]
        for name in importlib.metadata.requires(DISTRIBUTION)
        if "extra" not in name
    }
    assert required - {"numpy", "rich", "typer"} == set(doctor.PACKAGES) - doctor.OPTIONAL


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("vocab --input nothing --output v", "There is no file nothing."),
        ("vocab --input folder --output v", "folder can't be read"),
        ("vocab --input latin --output v", "latin, line 1: not UTF-8"),
        ("vocab --input broken.gz --output v", "broken.gz can't be read"),
        ("vocab --input empty --output v", "texts holds no word"),
        ("vocab --input short --output v --size 7", "vocabulary_size is 7, but 10 entries"),
        ("vocab --input short --output v --min-frequency 0", "min_frequency is 0"),
        ("vocab --input short --output latin", "latin exists"),
        ("vocab --input short --output folder --overwrite", "folder is a folder"),
        ("vocab --input short --output latin/v", "latin"),
        ("translate --model nothing", "There is no file or folder nothing."),
        ("translate --model folder", "folder is not a model"),
        ("translate --model short", "short is not a model"),
        ("translate --model model.ids.tflite", "model.ids.tflite takes no text"),
        ("translate --model broken.tflite", "broken.tflite can't be loaded"),
        ("translate --model fresh", "fresh has no weights yet"),
        ("translate --model run --input nothing", "There is no file nothing."),
        ("translate --model run --input short --output folder", "folder is a folder"),
        ("translate --model run --input latin --output new.txt", "latin, line 1: not UTF-8"),
        ("evaluate --model run --source short --target nothing", "There is no file nothing."),
        ("evaluate --model run --source short --target empty", "empty has 0 lines, but short"),
        ("evaluate --model nothing --source short --target short", "no file or folder nothing"),
        (
            "evaluate --model run --source short --target short --tokenize moses",
            "There is no tokeniser 'moses'; choose one of 13a,",
        ),
        ("export --model nothing --output new", "There is no folder nothing."),
        ("export --model folder --output new", "folder is not a run"),
        ("export --model fresh --output new", "fresh has no weights yet"),
        ("demo --output short", "short is a file"),
        ("demo --output folder", "folder holds something already; add --overwrite"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(bad, call, arguments, message):
    assert_refused(bad, call, arguments, message)


def test_a_device_is_never_replaced(here, call, exported):
    Path("text").write_text("ab\n")
    os.mkfifo("pipe")  # stands for /dev/null
    for command in (
        ["vocab", "--input", "text", "--output", "pipe", "--overwrite"],
        ["translate", "--model", exported.paths["tflite"], "--input", "text", "--output", "pipe"],
    ):
        status, _, error = call(command)
        assert (status, error) == (2, "error: pipe is not an ordinary file; give another name.\n")
        assert Path("pipe").is_fifo()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nonsense", "nonsense"),
        ("train --nonsense", "--nonsense"),
        ("train --steps many", "--steps"),
        ("train --schedule zigzag", "zigzag"),
        ("vocab --input x --output y --score best", "best"),
        ("vocab --output y", "--input"),
        ("translate --model run --batch-tokens 0", "--batch-tokens"),
        ("translate", "--model"),
    ],
)
def test_a_wrong_option_is_named(here, call, arguments, message):
    status, output, error = call(arguments)
    assert (status, output) == (2, "")
    assert message in error.splitlines()[-1]
    assert "Error: " in error
    assert list(here.iterdir()) == []
