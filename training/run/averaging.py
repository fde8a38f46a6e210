"""Averaging the weights of several checkpoints, which often are better than each of them."""

import contextlib
import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from keras_transformer.errors import InputError
from keras_transformer.files import replacing
from keras_transformer.locks import locked
from keras_transformer.text import save_tokenizer
from keras_transformer.training.run.checkpoints import Checkpoints
from keras_transformer.training.run.run_directory import RunDirectory


def average_weights(paths: Sequence[Path], output: Path) -> None:
    """Write the arithmetic mean of files of weights of one model, computed in float64.

    What is not a floating-point number, such as the state of dropout's random generators, is
    taken from the last file.

    Args:
        paths: `.weights.h5` files as Keras writes them.
        output: The file to write, of the same kind. It appears in one move.

    Raises:
        InputError: If there is no file, one can't be read, or they are not of the same model; the
            message names the file and the weights in it.

    Reference: Vaswani et al. 2017, section 6.1, which averages the last 5 or 20 checkpoints;
        Junczys-Dowmunt et al. 2016, "The AMU-UEDIN Submission to the WMT16 News Translation Task".
    """
    if not paths:
        raise InputError("There are no files to average.")
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(_open(path)) for path in paths]
        arrays = [_arrays(file) for file in files]
        last = arrays[-1]
        for path, other in zip(paths, arrays, strict=True):
            _check_same(path, other, paths[-1], last)
        # In memory, because HDF5's library ends the process where it can't write to a disk.
        memory = io.BytesIO(Path(paths[-1]).read_bytes())
        result = stack.enter_context(h5py.File(memory, "r+"))
        for name, array in last.items():
            if array.dtype.kind == "f":
                # One by one, so that no more than two of them are in memory.
                total = np.zeros(array.shape, "float64")
                for other in arrays:
                    total += other[name][()]
                result[name][...] = total / len(arrays)
        result.flush()
        with replacing(Path(output)) as new:
            new.write_bytes(memory.getbuffer())


def average_run(run: RunDirectory, output: Path, last: int | None = None) -> RunDirectory:
    """Make a run whose weights are the average of another run's newest checkpoints.

    Args:
        run: A run that was trained with more than one checkpoint kept.
        output: Folder of the new run. It has no checkpoints, so training can't go on from it, but
            it can be translated with, evaluated and exported.
        last: How many checkpoints to average, at least 2; None for all.

    Returns:
        The new run.

    Raises:
        InputError: If the run has too few checkpoints, or `output` is not free.
    """
    if last is not None and last < 2:
        raise InputError(f"The number of checkpoints to average must be at least 2, got {last}.")
    RunDirectory.check_free(output)
    steps = sorted(run.checkpoints.folder.glob("step-*"))
    wanted = last or 2
    if len(steps) < wanted:
        raise InputError(
            f"An average needs at least {wanted} checkpoints, and {run.path} has {len(steps)}. "
            f"Train with --keep-checkpoints {wanted} or more."
        )
    with locked(output, "averaging"), replacing(Path(output)) as folder:
        folder.mkdir()
        new = RunDirectory(folder)
        new.save_config(run.model_config(), run.training_config(), run.task_settings())
        save_tokenizer(run.tokenizer(), folder)
        if run.samples_path.is_file():
            shutil.copyfile(run.samples_path, new.samples_path)
        weights = [step / Checkpoints.WEIGHTS for step in steps[-(last or len(steps)) :]]
        average_weights(weights, new.best_path)
    return RunDirectory(output)


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} is not a file of weights, or is damaged: {error}") from None


def _arrays(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Return the datasets of a file by their names."""
    found = {}

    def note(name: str, value: h5py.Dataset | h5py.Group) -> None:
        if isinstance(value, h5py.Dataset):
            found[name] = value

    file.visititems(note)
    return found


def _check_same(
    path: Path, arrays: dict[str, h5py.Dataset], last_path: Path, last: dict[str, h5py.Dataset]
) -> None:
    if odd := sorted(arrays.keys() ^ last.keys()):
        holder, other = (path, last_path) if odd[0] in arrays else (last_path, path)
        raise InputError(f"{holder} holds {odd[0]}, but {other} does not: not of the same model.")
    for name, array in arrays.items():
        for what in ("shape", "dtype"):
            ours, theirs = getattr(array, what), getattr(last[name], what)
            if ours != theirs:
                raise InputError(
                    f"{name} has {what} {ours} in {path}, but {theirs} in {last_path}: not of the "
                    "same model."
                )
        if array.dtype.kind not in "fiub":
            raise InputError(f"{name} in {path} is of {array.dtype}, which can't be averaged.")
