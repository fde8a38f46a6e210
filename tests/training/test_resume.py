"""Tests of going on with a run: as if it had never stopped."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
from fixtures_run import (
    STEPS,
    arrays,
    asked_for,
    column,
    differences,
    everything,
    make_run,
    quiet,
    trained,
    without_speed,
    write_text,
)

from keras_transformer.errors import InputError
from keras_transformer.models import Transformer
from keras_transformer.training import trainer
from keras_transformer.training.data.corpora import Mixture, ParallelFiles
from keras_transformer.training.run.run_directory import RunDirectory

__all__ = ["trained"]


@pytest.fixture
def files(tmp_path):
    return write_text(tmp_path, "train", 60), write_text(tmp_path, "valid", 10)


def train_and_stop(run, step, number=signal.SIGINT):
    """Train until a signal comes after a step."""
    ordinary = trainer.Report.on_train_batch_end

    def press(report, batch, logs=None):
        ordinary(report, batch, logs)
        if report.step == step:
            os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.Report, "on_train_batch_end", press)
        return trainer.train(run, quiet())


@pytest.fixture(scope="module")
def interrupted(trained, tmp_path_factory):
    """The run of `trained`, ended by Ctrl-C half way, and then gone on with."""
    path = tmp_path_factory.mktemp("interrupted") / "run"
    run = make_run(path, trained.train, trained.valid)
    before = signal.getsignal(signal.SIGINT)
    first = train_and_stop(run, STEPS // 2 + 3)
    assert signal.getsignal(signal.SIGINT) is before
    halfway = sorted(path.name for path in run.checkpoints.folder.iterdir())
    second = trainer.train(RunDirectory.open(path), quiet())
    return first, halfway, second, run


def test_ctrl_c_saves_and_says_so(interrupted):
    first, halfway, _, _ = interrupted
    assert (first.step, first.interrupted, first.signal) == (STEPS // 2 + 3, True, signal.SIGINT)
    assert halfway == [f"step-{STEPS // 2:08d}", f"step-{STEPS // 2 + 3:08d}"]


def test_going_on_equals_never_having_stopped(trained, interrupted):
    *_, second, run = interrupted
    assert (second.step, second.interrupted) == (STEPS, False)
    assert trained.run.model_config().dropout > 0
    assert differences(trained.run, run) == []
    assert arrays(trained.run.best_path).keys() == arrays(run.best_path).keys()
    assert second.best == trained.result.best


def test_what_was_noted_is_the_same_but_for_the_speed(trained, interrupted):
    *_, run = interrupted
    assert without_speed(run) == without_speed(trained.run)
    assert column(run, "train/tokens_per_second").keys() == {50, 100, 150, STEPS}


def test_another_seed_gives_other_weights(trained):
    # The comparison above can fail.
    weights = []
    for seed in (1, 2):
        trainer.keras.utils.set_random_seed(seed)
        weights.append(Transformer(trained.run.model_config()).get_weights())
    assert any((a != b).any() for a, b in zip(*weights, strict=True))


def as_it_was(run, step, path):
    """A copy of a run as a process that was killed after a checkpoint would have left it.

    No validation may have come before the checkpoint.
    """
    copy = RunDirectory(shutil.copytree(run.path, path))
    copy.best_path.unlink()
    for folder in copy.checkpoints.all():
        if folder.name != f"step-{step:08d}":
            shutil.rmtree(folder)
    assert copy.steps_done() == step
    return copy


def test_every_way_of_training_can_be_gone_on_with(tmp_path, files):  # T12, T16
    settings = {
        "precision": "mixed_float16",
        "ema": 0.9,
        "optimizer": "adamw",
        "teacher_forcing": 0.5,
        "accumulate": 2,
        "schedule": "linear",
        **{"validate_every": 4, "checkpoint_every": 3, "keep_checkpoints": 3, "warmup_steps": 2},
    }
    whole = make_run(
        tmp_path / "whole", *files, steps=8, training=settings, model={"recompute": True}
    )
    trainer.train(whole, quiet())
    half = as_it_was(whole, 3, tmp_path / "half")
    trainer.train(half, quiet())
    assert differences(whole, half) == []
    assert without_speed(whole) == without_speed(half)
    best = [arrays(run.best_path) for run in (whole, half)]
    assert [name for name in best[0] if (best[0][name] != best[1][name]).any()] == []


@pytest.mark.parametrize("steps", [STEPS, STEPS - 1, 1])
def test_fewer_steps_than_done_are_refused(trained, tmp_path, steps):
    run = RunDirectory(shutil.copytree(trained.run.path, tmp_path / "run"))
    before = everything(asked_for(run, steps=steps).path)
    with pytest.raises(InputError, match=f"trained for {STEPS} steps already; ask for more"):
        trainer.train(run, quiet())
    assert everything(run.path) == before


# --- Damage ---------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_passed_over_and_said(trained, tmp_path):  # T16
    run = RunDirectory(shutil.copytree(trained.run.path, tmp_path / "run"))
    run.samples_path.unlink()  # to translate them takes longer than to train
    newest = run.checkpoints.newest()
    (newest / "variables.npz").write_bytes(b"garbage")
    console = quiet()
    result = trainer.train(run, console)
    said = " ".join(console.file.getvalue().split())
    assert f"{newest} is damaged (variables.npz is not what was written)" in said
    assert f": going on from step {STEPS // 2}" in said
    assert result.step == STEPS
    assert differences(trained.run, run) == []
    assert without_speed(run) == without_speed(trained.run)
    assert "is damaged" not in trained.printed


def test_without_a_whole_checkpoint_nothing_is_trained(trained, tmp_path):  # T16
    run = RunDirectory(shutil.copytree(trained.run.path, tmp_path / "run"))
    for path in run.checkpoints.all():
        (path / "state.json").unlink()
    before = everything(run.path)
    with pytest.raises(InputError, match="holds no checkpoint that is whole") as raised:
        trainer.train(run, quiet())
    for path in run.checkpoints.all():
        assert f"{path}: FileNotFoundError: " in str(raised.value)
    assert everything(run.path) == before


KILLED = """
import os, signal, sys
from keras_transformer.training import trainer
from keras_transformer.training.run import checkpoints
from keras_transformer.training.run.run_directory import RunDirectory

ordinary = checkpoints.np.savez
def kill(path, *arrays):
    ordinary(path, *arrays)
    if "step-00000004" in str(path):
        os.kill(os.getpid(), signal.SIGKILL)
checkpoints.np.savez = kill
trainer.train(RunDirectory.open(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run on a mixture, killed at its second checkpoint, and one that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("killed")
    train, more, valid = (
        write_text(folder, *text) for text in (("train", 60), ("more-1", 20), ("valid", 10))
    )
    more = ParallelFiles(folder / "more-*.small", folder / "more-*.capital")
    settings = {"checkpoint_every": 2, "validate_every": 100, "token_dropout": 0.2}

    def make(name, **more_settings):
        training = {**settings, **more_settings}
        texts = Mixture((train, more), (1, 2))
        return make_run(folder / name, texts, valid, steps=6, training=training)

    # Determinism can't be switched off again, so that it is tried in the other process.
    run, undisturbed = make("run", deterministic=True), make("undisturbed")
    child = subprocess.run(
        [sys.executable, "-c", KILLED, run.path], capture_output=True, text=True, check=False
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    trainer.train(undisturbed, quiet())
    return run, undisturbed


def test_a_process_killed_while_it_saves_leaves_the_old_checkpoint_whole(killed):  # T16
    run, _ = killed
    assert run.steps_done() == 2
    assert [path.name for path in run.checkpoints.all()] == ["step-00000002"]
    assert len([*run.path.rglob(".writing-*")]) == 1


def test_a_mixture_is_trained_on_and_gone_on_with(killed, tmp_path):
    killed_run, undisturbed = killed
    run = RunDirectory(shutil.copytree(killed_run.path, tmp_path / "run"))
    trainer.train(asked_for(run, deterministic=False), quiet())
    assert run.steps_done() == 6
    assert [*run.path.rglob(".writing-*")] == []
    assert differences(run, undisturbed) == []
