"""Checkpoints: the state that a run goes on from.

Each is a folder `step-00000300` that appears in one move, flushed to the disk, with the weights,
the optimizer's variables (the loss scale among them), the random state, the metrics and what else
the training has to remember. A checksum of every file tells a whole checkpoint from a damaged one.
"""

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_transformer._backend import keras
from keras_transformer.errors import InputError
from keras_transformer.files import replacing
from keras_transformer.training.distribution import has_other_workers


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Where they are.
    """

    WEIGHTS = "model.weights.h5"
    VARIABLES = "variables.npz"
    STATE = "state.json"
    CHECKSUMS = "checksums.json"

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.damaged: dict[Path, str] = {}  # what is wrong with those that `newest` passed over

    def all(self) -> list[Path]:
        """Return the folders of all checkpoints, oldest first."""
        return sorted(self.folder.glob("step-*"))

    def newest(self) -> Path | None:
        """Return the folder of the newest checkpoint that is whole, or None."""
        for path in reversed(self.all()):
            if path not in self.damaged and (problem := self._problem(path)):
                self.damaged[path] = problem
            if path not in self.damaged:
                return path
        return None

    @staticmethod
    def step_of(path: Path) -> int:
        """Return the step of a checkpoint's folder."""
        return int(path.name.removeprefix("step-"))

    def _problem(self, path: Path) -> str:
        """Return what is wrong with a checkpoint; the empty string if nothing is."""
        try:
            expected = json.loads((path / self.CHECKSUMS).read_text("utf-8"))
            for name in (self.WEIGHTS, self.VARIABLES, self.STATE):
                if _checksum(path / name) != expected[name]:
                    return f"{name} is not what was written"
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def save(self, model: keras.Model, step: int, state: dict[str, Any], keep: int = 1) -> Path:
        """Write the state after a step, and remove all but the newest checkpoints up to it.

        Later ones are removed too: they are damaged, or the run would have gone on from them.

        Args:
            model: A compiled model whose optimizer is built.
            step: The number of steps made.
            state: What else to remember, ready for JSON.
            keep: How many checkpoints to keep, this one included.
        """
        path = self.folder / f"step-{step:08d}"
        with replacing(path) as new:
            new.mkdir()
            save_weights(model, new / self.WEIGHTS)
            np.savez(new / self.VARIABLES, *(v.numpy() for v in _variables(model)))
            (new / self.STATE).write_text(json.dumps(state), encoding="utf-8")
            sums = {file.name: _checksum(file) for file in sorted(new.iterdir())}
            (new / self.CHECKSUMS).write_text(json.dumps(sums, indent=2), encoding="utf-8")
        self.damaged.pop(path, None)
        kept = [other for other in self.all() if other <= path][-keep:]
        for other in self.all():
            if other not in kept:
                shutil.rmtree(other)
        return path

    def restore(self, model: keras.Model) -> dict[str, Any]:
        """Load the newest whole checkpoint into a compiled model, and return its state.

        Raises:
            InputError: If there is none, or it is of another model.
        """
        path = self.newest()
        if path is None:
            found = "".join(f"\n  {p}: {problem}" for p, problem in self.damaged.items())
            raise InputError(f"{self.folder} holds no checkpoint that is whole.{found}")
        try:
            if not model.optimizer.built:
                with model.distribute_strategy.scope():
                    model.optimizer.build(model.trainable_variables)
            with without_optimizer(model):
                model.load_weights(path / self.WEIGHTS)
            with np.load(path / self.VARIABLES) as saved:
                for variable, name in zip(_variables(model), saved.files, strict=True):
                    variable.assign(saved[name])
            return json.loads((path / self.STATE).read_text("utf-8"))
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).split("\n", maxsplit=1)[0]
            raise InputError(f"{path} is of another model: {reason}") from None


class _FileInMemory(io.BytesIO):
    """The object that Keras reads a file of weights from."""

    def __str__(self) -> str:
        return "memory.weights.h5"


def save_weights(model: keras.Model, path: Path) -> None:
    """Write a model's weights, without the optimizer's state.

    The file is made in memory. HDF5's library ends the process with a segmentation fault if it
    can't write all of a file, because the disk is full; Python raises an error.
    """
    file = _FileInMemory()
    with without_optimizer(model):
        model.save_weights(file)
    Path(path).write_bytes(file.getbuffer())


@contextlib.contextmanager
def without_optimizer(model: keras.Model) -> Iterator[None]:
    """Hide the optimizer from Keras, which would write its state into a file of weights.

    Adam's state is twice the size of the weights.
    """
    optimizer = getattr(model, "optimizer", None)  # there is none before `compile`
    if optimizer is None:
        yield
        return
    object.__setattr__(model, "optimizer", None)
    try:
        yield
    finally:
        object.__setattr__(model, "optimizer", optimizer)


def _variables(model: keras.Model) -> list[keras.Variable]:
    """Return what a file of weights lacks: optimizer, dropout's random state, metrics."""
    return [
        *model.optimizer.variables,
        *model.non_trainable_variables,
        # Those of many workers add up over all of them, which one alone can't read.
        *(() if has_other_workers(model.distribute_strategy) else model.metrics_variables),
    ]


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
