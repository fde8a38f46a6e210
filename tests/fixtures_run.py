"""A small trained run and its export, made once and shared by test modules and their processes.

The task is to write a few words in capitals. Use `shutil.copytree` before changing anything.
"""

import dataclasses
import fcntl
import functools
import hashlib
import io
import json
import os
import pickle
import random
import socket
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from rich.console import Console

WORDS = ["red", "blue", "green", "grey", "cat", "dog", "house", "tree", "sun", "naïve", "café."]
STEPS = 200
MODEL = {
    "num_layers": 1,
    "num_heads": 2,
    "d_model": 64,
    "d_ff": 64,
    "norm_first": True,
    "max_length": 24,
}
TRAINING = {
    "batch_tokens": 512,
    "learning_rate": 5e-3,
    "warmup_steps": 20,
    "label_smoothing": 0.05,
    "validate_every": 50,
    "checkpoint_every": 100,
}


def write_text(folder, name, count, seed=0):
    """Write parallel text, and return its files."""
    from keras_transformer.training.data.corpora import ParallelFiles

    rng = random.Random(f"{name} {seed}")
    lines = [" ".join(rng.choices(WORDS, k=rng.randint(1, 5))) for _ in range(count)]
    files = ParallelFiles(folder / f"{name}.small", folder / f"{name}.capital")
    for path, texts in ((files.source, lines), (files.target, [x.upper() for x in lines])):
        path.write_text("".join(f"{x}\n" for x in texts), "utf-8")
    return files


def free_ports(count):
    """Return ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def make_run(path, train, valid, *, model=None, training=None, samples=False, **options):
    """Set up a run that is small enough for a test; it translates no samples if not asked.

    They take longer than the few steps that a test trains.
    """
    from keras_transformer.training.new_run import new_run

    run = new_run(
        path,
        train,
        valid,
        **{"steps": STEPS, "vocabulary_size": 120, **options},
        model={**MODEL, **(model or {})},
        training={**TRAINING, **(training or {})},
        console=quiet(),
    )
    if not samples:
        run.samples_path.unlink()
    return run


def quiet():
    """Return a console whose text is in `console.file.getvalue()`."""
    return Console(file=io.StringIO(), width=200)


def everything(folder):
    """Return every path in a folder with its content, to see whether anything changes."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in sorted(folder.rglob("*"))
    }


def once(make):
    """Keep what a function makes, for all processes of pytest-xdist: the first one makes it."""
    made = []

    @functools.wraps(make)
    def get(tmp_path_factory):
        if not made:
            alone = "PYTEST_XDIST_WORKER" not in os.environ
            made.append(make(tmp_path_factory) if alone else shared(make, tmp_path_factory))
        return made[0]

    return get


def shared(make, tmp_path_factory):
    """Return what a function makes, or has made in another process, which is waited for."""
    path = tmp_path_factory.getbasetemp().parent / f"{make.__name__}.pickle"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            made = pickle.dumps(make(tmp_path_factory))
            path.write_bytes(made)
        return pickle.loads(path.read_bytes())


@once
def _trained(tmp_path_factory):
    from keras_transformer.training.trainer import train

    folder = tmp_path_factory.mktemp("trained")
    files = write_text(folder, "train", 800), write_text(folder, "valid", 60)
    run = make_run(folder / "run", *files, samples=True)
    console = quiet()
    result = train(run, console)
    return SimpleNamespace(
        folder=folder,
        run=run,
        train=files[0],
        valid=files[1],
        result=result,
        printed=console.file.getvalue(),
    )


@once
def _exported(tmp_path_factory):
    from keras_transformer.export import export_run

    folder = tmp_path_factory.mktemp("exported") / "export"
    console = quiet()
    # The model is so small that rounding its weights costs more than it would elsewhere.
    paths = export_run(
        _trained(tmp_path_factory).run, folder, console, name="capitals", max_quality_loss=20
    )
    return SimpleNamespace(folder=folder, paths=paths, printed=console.file.getvalue())


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    return _trained(tmp_path_factory)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    return _exported(tmp_path_factory)


# --- What a run has written -----------------------------------------------------------------------


def lines_of(run):
    """Return the lines of metrics.jsonl."""
    return [json.loads(line) for line in run.metrics_path.read_text().splitlines()]


def column(run, name):
    """Return the values noted under a name, by step."""
    return {line["step"]: line[name] for line in lines_of(run) if name in line}


def without_speed(run):
    """Return the lines of metrics.jsonl without what depends on the clock."""
    return [
        {name: value for name, value in line.items() if name != "train/tokens_per_second"}
        for line in lines_of(run)
    ]


def arrays(path):
    """Return every array of a file of weights, by name."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, x: found.update({name: x[()]}) if isinstance(x, h5py.Dataset) else None
        )
    return found


def state_of(run):
    """Return everything that the newest checkpoint holds, by name."""
    newest = run.checkpoints.newest()
    with np.load(newest / "variables.npz") as variables:
        state = {**arrays(newest / "model.weights.h5"), **variables}
    return {**state, "state.json": json.loads((newest / "state.json").read_text())}


def pretend_checkpoint(run, step, state):
    """Write a checkpoint that is whole, but holds a state alone."""
    folder = run.checkpoints.folder / f"step-{step:08d}"
    folder.mkdir(parents=True)
    contents = {"model.weights.h5": "", "variables.npz": "", "state.json": json.dumps(state)}
    for name, text in contents.items():
        (folder / name).write_text(text)
    sums = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in contents.items()}
    (folder / "checksums.json").write_text(json.dumps(sums))


def differences(run, other):
    """Return the names of what differs between the newest checkpoints of two runs."""
    one, two = state_of(run), state_of(other)
    return sorted(one.keys() ^ two.keys()) + [
        name for name in one if not np.array_equal(one[name], two[name])
    ]


def asked_for(run, **changes):
    """Change what a run is asked for, as `--steps` does."""
    config = dataclasses.replace(run.training_config(), **changes)
    run.save_config(run.model_config(), config)
    return run
