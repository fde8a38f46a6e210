"""Checkpoints: the state that a run goes on from.

Each is a folder `step-00000300` that appears in one move, with the weights (dropout's random state
included), the optimizer's variables and what else the training has to remember.
"""

import contextlib
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from keras_transformer.errors import InputError
from keras_transformer.training.files import replacing


class Checkpoints:
    """The checkpoints of one run; only the newest is kept.

    Args:
        folder: Where they are.
    """

    WEIGHTS = "model.weights.h5"
    OPTIMIZER = "optimizer.npz"
    STATE = "state.json"

    def __init__(self, folder):
        self.folder = Path(folder)

    def newest(self) -> Path | None:
        """Return the folder of the newest checkpoint, or None."""
        return max(self.folder.glob("step-*"), default=None)

    @staticmethod
    def step_of(path: Path) -> int:
        """Return the step of a checkpoint's folder."""
        return int(path.name.removeprefix("step-"))

    def save(self, model, state: dict[str, Any]) -> Path:
        """Write the state after the optimizer's last step, and remove older ones.

        Args:
            model: A compiled model whose optimizer is built.
            state: What else to remember, ready for JSON.
        """
        step = int(model.optimizer.iterations)
        path = self.folder / f"step-{step:08d}"
        with replacing(path) as new:
            new.mkdir()
            with without_optimizer(model):
                model.save_weights(new / self.WEIGHTS)
            variables = [np.asarray(v) for v in _state(model)]
            np.savez(new / self.OPTIMIZER, *variables)
            (new / self.STATE).write_text(json.dumps(state), encoding="utf-8")
        for other in self.folder.glob("step-*"):
            if other != path:
                shutil.rmtree(other)
        return path

    def restore(self, model) -> dict[str, Any]:
        """Load the newest checkpoint into a compiled model, and return the remembered state.

        Raises:
            InputError: If there is none, or it is damaged.
        """
        path = self.newest()
        if path is None:
            raise InputError(f"{self.folder} holds no checkpoint.")
        try:
            model.optimizer.build(model.trainable_variables)
            with without_optimizer(model):
                model.load_weights(path / self.WEIGHTS)
            with (path / self.OPTIMIZER).open("rb") as file, np.load(file) as saved:
                for variable, name in zip(_state(model), saved.files, strict=True):
                    variable.assign(saved[name])
            return json.loads((path / self.STATE).read_text("utf-8"))
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is damaged or of another model: {error}") from None


@contextlib.contextmanager
def without_optimizer(model):
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


def _state(model):
    """Return what a file of weights lacks: the optimizer's variables and dropout's random state."""
    return [*model.optimizer.variables, *model.non_trainable_variables]
