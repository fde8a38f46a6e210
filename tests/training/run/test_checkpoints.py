"""Tests of keras_transformer.training.run.checkpoints."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_families import leave_out_decoding
from fixtures_run import everything
from oracles import shake

from keras_transformer.errors import InputError
from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.training.losses import CrossEntropy
from keras_transformer.training.optimizers import OPTIMIZERS
from keras_transformer.training.run import checkpoints as module
from keras_transformer.training.run.checkpoints import Checkpoints, save_weights

SOURCE = np.array([[5, 6, 7, 3], [8, 9, 3, 0]], "int32")
TARGET = np.array([[2, 5, 10], [2, 9, 0]], "int32")
LABELS = np.array([[5, 10, 3], [9, 3, 0]], "int32")
STATE = {"best": {"step": 3, "loss": 0.1 + 0.2}, "examples": {"8": 3}}
FILES = ["model.weights.h5", "variables.npz", "state.json"]


def made(seed=0, precision="mixed_float16", optimizer="adam", **config):
    keras.utils.set_random_seed(seed)
    model = Transformer(
        TransformerConfig(11, 1, 2, 8, **{"d_ff": 16, "dropout": 0.3, **config}), dtype=precision
    )
    optimizer = OPTIMIZERS[optimizer](0.01, use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, loss=CrossEntropy(0.1))
    return model


def fit(model, steps):
    data = tf.data.Dataset.from_tensors(
        ({"source_ids": SOURCE, "target_ids": TARGET}, LABELS)
    ).repeat()
    # Once `fit` ends an epoch, Keras puts the average in the place of the weights.
    batches = iter(data)
    model.make_train_function()
    for _ in range(steps):
        model.train_function(batches)
    return model


def variables(model):
    """Every number that a step depends on or changes, by its place."""
    named = {f"weight {i}": w.numpy() for i, w in enumerate(model.weights)}
    for i, variable in enumerate(model.optimizer.variables):
        named[f"optimizer {i} {variable.name}"] = variable.numpy()
    return named | {f"metric {i}": v.numpy() for i, v in enumerate(model.metrics_variables)}


def different(one, other):
    return [
        f"{name}, {other_name}"
        for (name, value), (other_name, other_value) in zip(
            variables(one).items(), variables(other).items(), strict=True
        )
        if not np.array_equal(value, other_value)
    ]


@pytest.fixture(scope="module", autouse=True)
def _no_decoding():
    """Leave out the graphs for decoding, which no checkpoint knows."""
    with pytest.MonkeyPatch.context() as patch:
        leave_out_decoding(patch)
        yield


@pytest.fixture(scope="module")
def model():
    model = fit(made(), 3)
    model.optimizer.dynamic_scale.assign(2.0**9)
    return model


@pytest.fixture(scope="module")
def blank():
    return made(seed=1)


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints")


@pytest.mark.parametrize(
    ("precision", "optimizer"),
    [("mixed_float16", "adam"), ("float32", "adafactor"), ("mixed_bfloat16", "adamw")],
)
def test_everything_is_restored_to_the_last_bit(checkpoints, precision, optimizer):  # T12
    model = fit(made(precision=precision, optimizer=optimizer), 3)
    if precision == "mixed_float16":
        model.optimizer.dynamic_scale.assign(2.0**9)
        model.optimizer.skipped_steps.assign(5)
    checkpoints.save(model, 3, STATE)
    other = made(seed=1, precision=precision, optimizer=optimizer)
    other.optimizer.build(other.trainable_variables)
    for part in ("weight", "optimizer", "metric"):
        assert any(part in name for name in different(model, other)), part
    assert checkpoints.restore(other) == STATE
    assert different(model, other) == []
    fit(model, 2), fit(other, 2)  # dropout goes on as well
    assert different(model, other) == []


def test_a_checkpoint_has_its_files_and_their_checksums(checkpoints, model):
    path = checkpoints.save(model, 300, STATE)
    assert path == checkpoints.newest() == checkpoints.folder / "step-00000300"
    assert Checkpoints.step_of(path) == 300
    assert sorted(p.name for p in path.iterdir()) == sorted([*FILES, "checksums.json"])
    sums = json.loads((path / "checksums.json").read_text())
    assert sorted(sums) == sorted(FILES)
    # Adam's state is twice the size of the weights, and is not in their file.
    size = (path / "model.weights.h5").stat().st_size
    model_alone = Transformer(model.config, dtype="mixed_float16")
    save_weights(model_alone, checkpoints.folder / "alone.weights.h5")
    assert size == (checkpoints.folder / "alone.weights.h5").stat().st_size


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_are_kept(checkpoints, model, blank, keep):
    for step in (5, 10, 15, 20):
        checkpoints.save(model, step, {"step": step}, keep)
    kept = [5, 10, 15, 20][-keep:]
    assert [Checkpoints.step_of(path) for path in checkpoints.all()] == kept
    assert checkpoints.restore(blank) == {"step": 20}


def test_without_checkpoints_there_is_nothing_to_restore(checkpoints):
    assert checkpoints.newest() is None
    assert checkpoints.all() == []
    with pytest.raises(InputError, match="holds no checkpoint that is whole"):
        checkpoints.restore(made())


# --- Damage ---------------------------------------------------------------------------------------


def flip(data, place=0.5):
    at = int(place * len(data))
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGES = {
    "missing": None,
    "empty": lambda data: b"",
    "cut off": lambda data: data[: len(data) // 2],
    "one byte less": lambda data: data[:-1],
    "one bit flipped": flip,
    "the last bit flipped": lambda data: flip(data, (len(data) - 1) / len(data)),
    "something else": lambda data: b"garbage",
}


def damage(path, how):
    if DAMAGES[how] is None:
        path.unlink()
    else:
        path.write_bytes(DAMAGES[how](path.read_bytes()))


@pytest.fixture(scope="module")
def two(model, tmp_path_factory):
    """A folder of two checkpoints."""
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    for step in (1, 2):
        Checkpoints(folder).save(model, step, {"step": step}, 2)
    return folder


# What follows the last brace of the checksums means nothing.
HARMLESS = {("checksums.json", "one byte less"), ("checksums.json", "the last bit flipped")}


@pytest.mark.parametrize(
    ("name", "how"),
    [(n, how) for n in (*FILES, "checksums.json") for how in DAMAGES if (n, how) not in HARMLESS],
)
def test_a_damaged_checkpoint_is_passed_over(checkpoints, two, blank, name, how):  # T16
    shutil.copytree(two, checkpoints.folder)
    damage(checkpoints.folder / "step-00000002" / name, how)
    again = Checkpoints(checkpoints.folder)
    assert again.newest().name == "step-00000001"
    assert again.restore(blank) == {"step": 1}
    ((path, problem),) = again.damaged.items()
    assert path.name == "step-00000002"
    if name in FILES and how != "missing":
        assert problem == f"{name} is not what was written"
    elif how == "missing":
        assert name in problem


def test_if_none_is_whole_all_are_named(checkpoints, model):  # T16
    for step in (1, 2):
        damage(checkpoints.save(model, step, {}, 2) / "state.json", "empty")
    before = everything(checkpoints.folder)
    with pytest.raises(InputError, match="holds no checkpoint that is whole") as raised:
        Checkpoints(checkpoints.folder).restore(made())
    for path in checkpoints.all():
        assert f"{path}: state.json is not what was written" in str(raised.value)
    assert everything(checkpoints.folder) == before


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_checkpoint_never_takes_the_place_of_a_whole_one(checkpoints, model, keep):  # T16
    for step in (100, 200):
        checkpoints.save(model, step, {}, 2)
    damage(checkpoints.folder / "step-00000200" / "state.json", "empty")
    again = Checkpoints(checkpoints.folder)
    assert again.newest().name == "step-00000100"
    again.save(model, 150, {}, keep)
    assert Checkpoints(checkpoints.folder).newest().name == "step-00000150"
    again.save(model, 200, {}, keep)
    assert Checkpoints(checkpoints.folder).newest().name == "step-00000200"


@pytest.mark.filterwarnings("ignore:Skipping nested container")
@pytest.mark.parametrize(
    "other", [{"d_ff": 12}, {"tie_embeddings": False}, {"optimizer": "adafactor"}], ids=str
)
def test_a_checkpoint_of_another_model_is_refused(checkpoints, model, other):
    path = checkpoints.save(model, 1, {})
    with pytest.raises(InputError, match=f"{path} is of another model: ") as raised:
        checkpoints.restore(made(**other))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("part", ["save_weights", "savez", "_checksum"])
@pytest.mark.parametrize("step", [1, 2])
def test_a_failure_while_saving_leaves_the_old_as_it_was(
    checkpoints, monkeypatch, part, step
):  # T16
    model = made()
    model.optimizer.build(model.trainable_variables)
    checkpoints.save(model, 1, STATE, 2)
    before = everything(checkpoints.folder)

    def fail(*_):
        raise OSError("the disk is full")

    where = {"save_weights": model, "savez": module.np, "_checksum": module}[part]
    monkeypatch.setattr(where, part, fail)
    with pytest.raises(OSError, match="full"):
        checkpoints.save(model, step, {}, 1)
    monkeypatch.undo()
    assert everything(checkpoints.folder) == before
    assert model.optimizer is not None
    shake(model, np.random.default_rng(0))
    assert checkpoints.restore(model) == STATE
