"""What the files of an earlier commit are compared by, when they are made and when they are read.

Only public names are used here, so that modules may move.
"""

import contextlib
import hashlib
import json
import tarfile
from pathlib import Path
from unittest import mock

import keras
import numpy as np

import keras_transformer as kt

EARLIER = Path(__file__).parent / "golden" / "earlier"
PLACE = "@FOLDER@"  # stands for the folder of the data in the configuration of a run


def pack(folder, archive):
    """Put what is in a folder into an archive, without what differs between two machines."""

    def plain(member):
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for path in sorted(Path(folder).iterdir()):
            tar.add(path, path.name, filter=plain)


def unpack(name, folder):
    """Unpack an archive of earlier files into a folder, and return the folder."""
    with tarfile.open(EARLIER / f"{name}.tar.xz") as tar:
        tar.extractall(folder, filter="data")
    return folder


# --- Arrays as plain values -----------------------------------------------------------------------


def as_plain(arrays):
    """Turn arrays by name into something that JSON holds; nine digits are enough for float32."""
    return {name: _as_plain(np.asarray(array)) for name, array in arrays.items()}


def _as_plain(array):
    if array.dtype.kind in "OSU":
        flat = [
            x.decode("utf-8", "surrogateescape") if isinstance(x, bytes) else str(x)
            for x in array.ravel()
        ]
        return {"dtype": "string", "shape": array.shape, "values": flat}
    flat = array.ravel().tolist()
    if array.dtype.kind == "f":
        flat = [float(f"{x:.9g}") for x in flat]
    return {"dtype": array.dtype.name, "shape": array.shape, "values": flat}


def as_arrays(values):
    """Undo `as_plain`; strings become bytes."""
    return {name: _as_array(**value) for name, value in values.items()}


def _as_array(dtype, shape, values):
    if dtype == "string":
        return np.array([*(x.encode("utf-8", "surrogateescape") for x in values), None], object)[
            :-1
        ].reshape(shape)
    return np.array(values, dtype).reshape(shape)


def assert_same(found, expected, what):
    """Compare arrays by name: texts and whole numbers exactly, others to a millionth."""
    assert found.keys() == expected.keys(), what
    for name, wanted in expected.items():
        got, message = np.asarray(found[name]), f"{what}: {name}"
        assert got.shape == wanted.shape, message
        if wanted.dtype.kind == "f":
            assert got.dtype == wanted.dtype, message
            np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6, err_msg=message)
        else:
            assert (got == wanted).all(), message


def digest(value):
    """Return a short digest of every bit of an array, or of a structure of arrays with its names.

    Fractions, such as those of pictures, are rounded first: processors differ in the last bit.
    """
    if isinstance(value, dict):
        parts = [f"{name}={digest(value[name])}" for name in sorted(value)]
    elif isinstance(value, (list, tuple)):
        parts = [digest(part) for part in value]
    else:
        array = np.asarray(value)
        parts = [array.dtype.name, str(array.shape)]
        exact = array if array.dtype.kind != "f" else np.round(array * 10_000).astype("int64")
        return hashlib.sha256(repr(parts).encode() + exact.tobytes()).hexdigest()[:12]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]


def weights_of(model):
    """Return the shape and a digest of every bit of each of a model's weights, in their order."""
    return bits_of(model.weights)


def bits_of(variables):
    """Return the shape and a digest of every bit of each variable."""
    arrays = [keras.ops.convert_to_numpy(variable) for variable in variables]
    return [f"{x.shape} {hashlib.sha256(x.tobytes()).hexdigest()[:12]}" for x in arrays]


def optimizer_of(model):
    """Return the classes of a model's optimizer and schedule, with their settings."""
    config = keras.saving.serialize_keras_object(model.optimizer)
    return json.loads(json.dumps(_without_modules(config)))


def _without_modules(value):
    if isinstance(value, dict):
        return {name: _without_modules(x) for name, x in value.items() if name != "module"}
    return [_without_modules(x) for x in value] if isinstance(value, (list, tuple)) else value


# --- Training -------------------------------------------------------------------------------------


@contextlib.contextmanager
def watched(stop_after=None, run_eagerly=False):
    """Give a list of what each step of a training was made of and came to.

    Args:
        stop_after: Number of steps after which training ends as if by a signal; None for never.
        run_eagerly: Whether to make steps without a graph, which takes longer to trace than a few
            of them take.
    """
    steps = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            values = {name: float(logs[name]) for name in ("loss", "gradient_norm")}
            steps.append({"batch": digest(self.model.last_batch), **values})
            if len(steps) == stop_after:
                self.model.stop_training = True

    plain_fit, plain_compile = kt.models.Model.fit, kt.models.Model.compile

    def fit(self, *args, callbacks=(), **kwargs):
        return plain_fit(self, *args, callbacks=[*callbacks, Watch()], **kwargs)

    def compile_(self, *args, **kwargs):
        return plain_compile(self, *args, run_eagerly=run_eagerly, **kwargs)

    with mock.patch.multiple(kt.models.Model, fit=fit, compile=compile_):
        yield steps


def noted(folder):
    """Return the lines of a run's metrics without what depends on the clock."""
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    return [
        {name: x for name, x in json.loads(line).items() if name != "train/tokens_per_second"}
        for line in lines
    ]


def place(run, folder):
    """Tell a run that was moved where its data is."""
    path = run / "config.json"
    path.write_text(path.read_text("utf-8").replace(PLACE, str(folder)), "utf-8")
