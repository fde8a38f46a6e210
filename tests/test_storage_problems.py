"""What the system refuses ends in one line: full and read-only disks, pipes, links, locales.

Also: cli.columns.
"""

import contextlib
import errno
import io
import json
import os
import resource
import sys
import threading
from pathlib import Path

import pytest
import tensorflow as tf
from fixtures_cli import SMALL, TEXT, call, exported, here, texts, trained
from fixtures_servables import servable

from keras_transformer import files
from keras_transformer.cli import app as cli
from keras_transformer.cli.columns import as_cell, as_line
from keras_transformer.errors import InputError
from keras_transformer.export.saved_model import export_saved_model
from keras_transformer.files import replacing, storage_problem, system_problem
from keras_transformer.pipelines.text_classifier import TextClassifier
from keras_transformer.training.tasks import sequence_to_sequence

__all__ = ["call", "exported", "here", "texts", "trained"]

FULL = "No space left on device"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A SavedModel whose labels hold what separates columns and lines."""
    made = servable("classification")
    path = tmp_path_factory.mktemp("classifier") / "1"
    odd = TextClassifier(made.model, made.tokenizer, ["größer\tals", "zwei\nZeilen"])
    export_saved_model(odd, path)
    return path


# --- Full and read-only disks ---------------------------------------------------------------------


@pytest.fixture
def small_files():
    """Lets this process write no larger files than so many kB, until the test ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit * 1024, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("limit", [60, 200])  # kB: within the weights, and within the checkpoint
def test_a_disk_that_fills_up_while_training_says_how_to_go_on(
    texts, call, small_files, limit, monkeypatch
):
    monkeypatch.setattr(sequence_to_sequence, "SAMPLES_SHOWN", 0)  # they take a graph more
    arguments = f"train {TEXT} {SMALL} --output run --vocab-size 90 --steps 2 --validate-every 2"
    small_files(limit)
    status, _, error = call(arguments.replace("--d-model 16", "--d-model 64"))
    *_, last = error.strip().splitlines()
    assert status == 2, error
    assert last.startswith("error: run/")
    assert "can't be written: File too large. run is whole up to step 0. Make room" in last
    assert last.endswith("keras-transformer train --resume run")
    assert not list(Path("run").rglob(".writing-*"))
    assert not list(Path().glob(".run.lock"))


def write_half(path, error):
    with replacing(path) as new:
        new.write_text("half")
        raise error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, FULL),
        OSError(errno.EROFS, "Read-only file system"),
        RuntimeError(f"Can't decrement id ref count (errno = 28, error message = '{FULL}')"),
        tf.errors.ResourceExhaustedError(None, None, f"x/variables.data; {FULL}"),
    ],
    ids=["full", "read-only", "h5py", "tensorflow"],
)
def test_what_can_not_be_stored_leaves_nothing_half_written(tmp_path, error):
    path = tmp_path / "weights"
    path.write_text("before")
    with pytest.raises(InputError, match="weights can't be written: ") as refused:
        write_half(path, error)
    assert str(refused.value).endswith((f"{FULL}.", "Read-only file system."))
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path):
    for error in (ValueError("shape"), FileNotFoundError(errno.ENOENT, "x", "y"), KeyError("a")):
        with pytest.raises(type(error)):
            write_half(tmp_path / "x", error)
        assert storage_problem(error) is None
    assert system_problem(ValueError("shape")) is None


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), "a/b: Permission denied."),
        (OSError(errno.ENOSPC, FULL), f"{FULL}."),
        (
            tf.errors.PermissionDeniedError(None, None, "a/b; Permission denied"),
            "a/b; Permission denied",
        ),
    ],
    ids=["permission", "space", "tensorflow"],
)
def test_the_command_line_shows_no_traceback(call, monkeypatch, error, line):
    def fail():
        raise error

    monkeypatch.setattr(cli, "app", fail)
    status, output, shown = call("doctor")
    assert (status, output, shown) == (2, "", f"error: {line}\n")


def test_a_full_device_as_standard_output(here, classifier, monkeypatch, capfd):
    Path("text").write_text("two men\n" * 3)
    arguments = ["classify", "--model", str(classifier), "--input", "text"]
    monkeypatch.setattr(sys, "argv", ["keras-transformer", *arguments])
    with open("/dev/full", "w", encoding="ascii") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert end.value.code == 2
    assert capfd.readouterr().err == f"error: {FULL}.\n"


# --- Links and folders ----------------------------------------------------------------------------


def test_a_link_is_written_through(here, call):
    Path("text").write_text("two men\n" * 5)
    Path("data").mkdir()
    for target, link in (("data/there", "link"), ("data/new", "dangling")):
        Path(link).symlink_to(target)
    Path("data/there").write_text("before")
    for link in ("link", "dangling"):
        vocab = f"vocab --input text --size 60 --output {link} --overwrite"
        assert call(vocab)[0] == 0
        assert Path(link).is_symlink()
        assert Path(link).read_text().startswith("[PAD]\n")
    assert sorted(path.name for path in Path("data").iterdir()) == ["new", "there"]
    with replacing(Path("folder-link")) as new:
        new.mkdir()
    Path("to-folder").symlink_to("folder-link")
    with replacing(Path("to-folder")) as new:
        new.mkdir()
        (new / "x").touch()
    assert Path("to-folder").is_symlink()
    assert Path("folder-link/x").is_file()
    Path("circle").symlink_to("circle")
    with pytest.raises(InputError, match="circle can't be written"), replacing(Path("circle")):
        pass


@pytest.mark.parametrize(
    "command",
    [
        "translate --model {0} --input text --output {1}",
        "score --model {0} --source text --target text --output {1}",
        "classify --model {0} --input text --output {1}",
        "embed --model {0} --input text --output {1}",
        "tag --model {0} --input text --output {1}",
        "generate --model {0} --input text --output {1}",
        "fill-mask --model {0} --input text --output {1}",
        "answer --model {0} --input text --output {1}",
        "attention --model {0} --text a --output {1}.png",
        "vocab --input text --output {1}",
    ],
)
def test_folders_are_not_made_for_a_file(here, call, command):
    Path("text").write_text("two men\n")
    Path("run").mkdir()
    Path("run/config.json").touch()
    status, _, error = call(command.format("run", "nowhere/x"))
    assert (status, error) == (
        2,
        "error: There is no folder nowhere; make it, or write elsewhere.\n",
    )
    assert not Path("nowhere").exists()


# --- Pipes ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def piped(name, content):
    """A FIFO that gives a text once, to whoever opens it first."""
    os.mkfifo(name)

    def write():
        with contextlib.suppress(BrokenPipeError):  # if nobody reads it
            Path(name).write_bytes(content.encode())

    thread = threading.Thread(target=write)
    thread.start()
    yield name
    with contextlib.suppress(OSError):
        os.close(os.open(name, os.O_RDONLY | os.O_NONBLOCK))
    thread.join()
    os.unlink(name)


def run_by_pipe(call, command, **texts):
    with contextlib.ExitStack() as stack:
        names = {n: stack.enter_context(piped(f"{n}.tsv", t)) for n, t in texts.items()}
        return call(command.format(**names))


def test_texts_come_through_pipes(here, call, exported, classifier):
    model = exported.paths["tflite"]
    lines, targets = "red cat\nblue dog\ngreen sun\n", "a b\nc d\ne f\n"
    Path("lines").write_text(lines)
    Path("targets").write_text(targets)
    for command, by_pipe, values in (
        (f"translate --model {model} --input {{a}}", ["a"], [lines]),
        (f"translate --model {model} --input {{a}} --prefix {{b}}", ["a", "b"], [lines, targets]),
        (f"score --model {model} --source {{a}} --target {{b}}", ["a", "b"], [lines, targets]),
        (f"evaluate --model {model} --source {{a}} --target {{b}}", ["a", "b"], [lines, targets]),
        (f"classify --model {classifier} --input {{a}}", ["a"], [lines]),
    ):
        files = dict(zip(by_pipe, ["lines", "targets"], strict=False))
        status, wanted, _ = call(command.format(**files))
        assert status == 0
        assert len(wanted.splitlines()) >= 3
        found = run_by_pipe(call, command, **dict(zip(by_pipe, values, strict=True)))
        assert found[:2] == (0, wanted), command
    export_saved_model(servable("classification"), here / "plain" / "1")
    examples = "two men\tgood\na\tbad\n"
    assert run_by_pipe(call, "evaluate --model plain --data {a}", a=examples)[0] == 0


def test_what_is_read_several_times_can_not_be_a_pipe(here, call):
    for command in (
        "train --task classification --data {a} --valid-data {a} --output run",
        "train --source {a} --target {a} --valid-source {a} --valid-target {a} --output run",
        "train --task causal-lm --data {a} --valid-data {a} --output run",
    ):
        status, _, error = run_by_pipe(call, command, a="a dog\tgood\n")
        assert status == 2
        assert error.startswith("error: a.tsv is a pipe or a device, which can be read only once")
        assert not Path("run").exists()


def test_a_vocabulary_and_a_comparison_are_learned_from_a_pipe(here, call):
    assert run_by_pipe(call, "vocab --input {a} --output v --size 40", a="two men\n" * 5)[0] == 0
    lines = "two men and a dog\n" * 30
    assert run_by_pipe(call, "tokenizers --input {a} --size 300", a=lines)[0] == 0


# --- Lines and columns ----------------------------------------------------------------------------


def test_labels_do_not_break_columns_whatever_the_locale(here, classifier, monkeypatch):
    Path("text").write_text("two men\na\n. . .\ncab\n")
    arguments = ["classify", "--model", str(classifier), "--input", "text"]
    monkeypatch.setattr(sys, "argv", ["keras-transformer", *arguments])
    output = io.BytesIO()
    output.close = lambda: None
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, "ascii"))
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    rows = [line.split("\t") for line in output.getvalue().decode("utf-8").splitlines()]
    assert len(rows) == 4
    assert {len(row) for row in rows} == {2}
    assert {row[0] for row in rows} <= {"größer als", "zwei Zeilen"}


def test_tabs_and_line_breaks_become_spaces():
    assert as_cell("a\tb\r\nc\nd\re") == "a b c d e"
    assert as_line("a\tb\r\nc\nd") == "a\tb c d"


def test_flushing_is_not_forgotten(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(files, "flush", flushed.append)
    with replacing(tmp_path / "x") as new:
        new.write_text(json.dumps(1))
    assert [path.name for path in flushed] == ["x"]
