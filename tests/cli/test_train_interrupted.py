"""Tests of cli.train: what ends a training early, and how it goes on.

Also: cli.terminal.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fixtures_cli import SMALL, TEXT, call, exported, here, texts, trained
from fixtures_run import free_ports

from keras_transformer.cli import train as cli_training

__all__ = ["call", "exported", "here", "texts", "trained"]

TRAIN = f"train {TEXT} --output new --steps 5 --vocab-size 90"


def test_a_signal_saves_and_prints_how_to_go_on(here, texts):
    command = [sys.executable, "-m", "keras_transformer", "train", *TEXT.split(), *SMALL.split()]
    options = "--output run --steps 100000 --vocab-size 90 --validate-every 5000"
    with subprocess.Popen([*command, *options.split()], stderr=subprocess.PIPE, text=True) as child:
        seen = []
        for line in child.stderr:
            seen.append(line)
            if line.startswith("step "):
                child.send_signal(signal.SIGTERM)
                break
        seen.append(child.stderr.read())
    error = "".join(seen)
    assert child.returncode == 143, error
    step = int(re.search(r"Stopped and saved at step (\d+)", error)[1])
    assert "Go on by: keras-transformer train --resume run" in error
    assert "Traceback" not in error
    assert os.listdir("run/checkpoints") == [f"step-{step:08d}"]


def test_ctrl_c_ends_with_a_status_of_its_own(texts, call, monkeypatch):
    # That the trainer stops after it is tested in test_resume.py.
    from keras_transformer.training import trainer

    stopped = trainer.TrainingResult(7, {}, {}, signal.SIGINT)
    monkeypatch.setattr(trainer, "train", lambda *_: stopped)
    status, output, error = call(TRAIN)
    assert (status, output) == (130, "")
    assert "Stopped and saved at step 7. Go on by: keras-transformer train --resume new" in error


def test_a_worker_that_is_told_to_stop_comes_back_and_the_other_waits(here, texts):  # T26
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}

    def start(index, arguments):
        task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        command = [sys.executable, "-m", "keras_transformer", "train", "--strategy", "multiworker"]
        return subprocess.Popen(
            [*command, *arguments.split()],
            env={**os.environ, "TF_CONFIG": json.dumps(task)},
            stderr=subprocess.PIPE,
            text=True,
        )

    options = f"{TEXT} {SMALL} --output run --steps 100 --vocab-size 90 --validate-every 20"
    first, second = (start(i, options) for i in range(2))
    metrics = Path("run/metrics.jsonl")
    while not metrics.is_file() or not metrics.read_text():
        assert (first.poll(), second.poll()) == (None, None)
        time.sleep(0.1)
    second.send_signal(signal.SIGTERM)
    _, error = second.communicate(timeout=120)
    assert second.returncode == 143, error
    step = int(re.search(r"Stopped and saved at step (\d+)", error)[1])
    assert f"step-{step:08d}" in os.listdir("run/checkpoints")
    second = start(1, "--resume run")
    errors = [worker.communicate(timeout=300)[1] for worker in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), errors
    assert "Starting again" in errors[0]
    assert "Traceback" not in errors[0]
    assert "step-00000100" in os.listdir("run/checkpoints")


# --- A worker that was lost -----------------------------------------------------------------------


@pytest.fixture
def restart(monkeypatch):
    """What would have been started again."""
    started = []
    monkeypatch.setattr(os, "execv", lambda path, arguments: started.append(arguments))
    monkeypatch.setattr(os, "closerange", lambda *_: None)
    monkeypatch.setattr(sys.stdout, "flush", lambda: None, raising=False)
    monkeypatch.delenv(cli_training.RESTARTS, raising=False)
    return started


def test_when_another_worker_is_lost_the_run_is_joined_again(trained, restart, monkeypatch, call):
    console = cli_training.make_console()
    lost = RuntimeError("worker 1 is gone\nand more")
    cli_training._start_again(trained.run.path, "multiworker", lost, console)
    ((_, *arguments),) = restart
    assert arguments == [
        *("-m", "keras_transformer", "train", "--resume", str(trained.run.path)),
        *("--strategy", "multiworker"),
    ]
    step = trained.run.steps_done()
    assert os.environ[cli_training.RESTARTS] == f"1:{step}"
    monkeypatch.setenv(cli_training.RESTARTS, f"{cli_training.MOST_RESTARTS}:{step}")
    with pytest.raises(cli_training.InputError, match=r"lost: worker 1 is gone$"):
        cli_training._start_again(trained.run.path, "multiworker", lost, console)
    assert len(restart) == 1


def test_a_run_that_was_never_set_up_is_not_joined_again(tmp_path, restart):
    with pytest.raises(cli_training.InputError, match="Another worker was lost: gone"):
        cli_training._start_again(
            tmp_path, "multiworker", RuntimeError("gone"), cli_training.make_console()
        )
    assert restart == []
