"""Tests of training.locks: one process writes a folder, and what was killed stops nobody."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest
from fixtures_run import make_run, quiet, trained, write_text

from keras_transformer.errors import InputError
from keras_transformer.export import export_run
from keras_transformer.locks import lock_path, locked
from keras_transformer.training.data.corpora import ParallelFiles
from keras_transformer.training.run.averaging import average_run
from keras_transformer.training.run.run_directory import RunDirectory
from keras_transformer.training.trainer import train
from keras_transformer.training.tune import tune

__all__ = ["trained"]

HOLDER = """
import sys, time
from keras_transformer.locks import locked
with locked(sys.argv[1], "training"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder():
    """Starts a process that holds the lock of a folder."""
    started = []

    def hold(folder):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_another_process_is_named(tmp_path, holder):
    process = holder(tmp_path / "run")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    for name in ("run", "./run/", "link", "../" + tmp_path.name + "/run"):
        with pytest.raises(InputError) as refused, locked(tmp_path / name, "averaging"):
            pass
        for part in (str(process.pid), socket.gethostname(), "training since 20"):
            assert part in str(refused.value)
    noted = json.loads(lock_path(tmp_path / "run").read_text())
    assert noted["process"] == process.pid
    with locked(tmp_path / "other", "training"):
        pass


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_holder_stops_nobody(tmp_path, holder, how):
    process = holder(tmp_path / "run")
    process.send_signal(how)
    process.wait()
    assert lock_path(tmp_path / "run").is_file()
    with locked(tmp_path / "run", "training"):
        noted = json.loads(lock_path(tmp_path / "run").read_text())
        assert noted["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_process_may_take_its_own_lock_again(tmp_path):
    with locked(tmp_path / "run", "training"):
        with locked(tmp_path / "run", "writing"):
            pass
        assert lock_path(tmp_path / "run").is_file()
    assert not lock_path(tmp_path / "run").exists()


def test_many_threads_and_a_failure_leave_no_lock(tmp_path):
    def take():
        for _ in range(50):
            with locked(tmp_path / "run", "training"):
                pass

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "run", "training"):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_else_writes_a_run_that_is_trained(tmp_path, holder):
    texts = write_text(tmp_path, "train", 30), write_text(tmp_path, "valid", 6)
    run = make_run(tmp_path / "run", *texts)
    holder(run.path)
    before = contents(run.path)
    for write in (
        lambda: train(run, quiet()),
        lambda: make_run(run.path, *texts, overwrite=True),
        lambda: run.extend(10_000),
        lambda: RunDirectory.create(
            run.path, run.model_config(), None, run.tokenizer(), [], overwrite=True
        ),
    ):
        with pytest.raises(InputError, match="run is in use by process"):
            write()
        assert contents(run.path) == before


def test_nothing_else_writes_what_is_exported_averaged_or_tuned(tmp_path, holder, trained):
    output = tmp_path / "output"
    holder(output)
    shutil.copytree(trained.run.path, tmp_path / "run")
    run = RunDirectory.open(tmp_path / "run")
    step = next(run.checkpoints.folder.glob("step-*"))
    shutil.copytree(step, step.with_name("step-00000001"))
    text = ParallelFiles(tmp_path / "a", tmp_path / "b")
    for write in (
        lambda: export_run(run, output, quiet()),
        lambda: average_run(run, output),
        lambda: tune(output, text, text, [], steps=1, console=quiet()),
        lambda: RunDirectory.create(output, run.model_config(), None, run.tokenizer(), []),
    ):
        with pytest.raises(InputError, match="output is in use by process"):
            write()
        assert not output.exists()
