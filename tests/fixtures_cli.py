"""What the tests of the command line share: a way to call it, text, and bad input."""

import gzip
import io
import shutil
import sys

import pytest
from fixtures_run import everything, exported, make_run, trained, write_text

from keras_transformer.cli import app as cli

__all__ = ["exported", "trained"]

TEXT = (
    "--source train.small --target train.capital "
    "--valid-source valid.small --valid-target valid.capital"
)
SMALL = "--num-layers 1 --num-heads 2 --d-model 16 --d-ff 16 --max-length 24 --batch-tokens 384"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def texts(here):
    return write_text(here, "train", 80), write_text(here, "valid", 12)


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs the command line in this process: returns its status, output and standard error."""

    def run(arguments, stdin=b""):
        arguments = arguments.split() if isinstance(arguments, str) else map(str, arguments)
        monkeypatch.setattr(sys, "argv", ["keras-transformer", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        with pytest.raises(SystemExit) as end:
            cli.main()
        output, error = capsys.readouterr()
        return end.value.code or 0, output, error

    return run


@pytest.fixture(scope="module")
def original(tmp_path_factory, trained, exported):
    """A folder with everything that bad input needs."""
    folder = tmp_path_factory.mktemp("original")
    make_run(folder / "fresh", write_text(folder, "train", 80), write_text(folder, "valid", 12))
    shutil.copytree(trained.run.path, folder / "run")
    shutil.copy(exported.paths["ids_tflite"], folder)
    (folder / "folder").mkdir()
    for name, content in {
        "folder/thesis.txt": b"x",
        "empty": b"",
        "short": b"red\n",
        "latin": "Männer\n".encode("latin-1"),
        "broken.gz": gzip.compress(b"ab\n" * 99)[:15] + b"\xff" * 20,
        "broken.tflite": b"x",
    }.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def bad(here, original):
    """A copy of it, which is the current folder."""
    return shutil.copytree(original, here, dirs_exist_ok=True)


def assert_refused(folder, call, arguments, message):
    """Bad input gives one line and status 2, and changes nothing."""
    before = everything(folder)
    status, output, error = call(arguments)
    assert status == 2
    assert output == ""
    error = error.removeprefix("Learned a vocabulary of 90 pieces\n")
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1 and error.endswith("\n")
    assert everything(folder) == before
