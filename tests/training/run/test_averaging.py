"""Tests of keras_transformer.training.run.averaging."""

import shutil

import h5py
import keras
import numpy as np
import pytest
from fixtures_families import without_decoding
from fixtures_run import everything
from oracles import assert_close

from keras_transformer.errors import InputError
from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.text import SPECIAL_TOKENS, WordPieceTokenizer
from keras_transformer.training.config import TrainingConfig
from keras_transformer.training.run.averaging import average_run, average_weights
from keras_transformer.training.run.run_directory import RunDirectory

__all__ = ["without_decoding"]

pytestmark = pytest.mark.usefixtures("without_decoding")

TOKENIZER = WordPieceTokenizer([*SPECIAL_TOKENS, "a", "##b", "c"])
MODEL = TransformerConfig(7, num_layers=1, num_heads=2, d_model=8, d_ff=8, max_length=12)
TRAINING = TrainingConfig("s", "t", "vs", "vt", 10, 0.01, 2, max_length=12, batch_tokens=24)


def write(path, **arrays):
    """Write a file with two groups, as Keras nests them."""
    with h5py.File(path, "w") as file:
        file.attrs["note"] = path.name
        for name, value in arrays.items():
            file[f"layers/dense/vars/{name}"] = value
    return path


def read(path):
    with h5py.File(path) as file:
        return {name: array[()] for name, array in file["layers/dense/vars"].items()}


@pytest.fixture
def run(tmp_path):
    """A run with three checkpoints of random weights."""
    run = RunDirectory.create(tmp_path / "run", MODEL, TRAINING, TOKENIZER, ["a b"])
    for step in (2, 4, 10):
        keras.utils.set_random_seed(step)
        folder = run.checkpoints.folder / f"step-{step:08d}"
        folder.mkdir(parents=True)
        Transformer(MODEL).save_weights(folder / "model.weights.h5")
    return run


def weights_of(run, step):
    model = Transformer(MODEL)
    model.load_weights(run.checkpoints.folder / f"step-{step:08d}" / "model.weights.h5")
    return [v.numpy() for v in model.trainable_variables]


# --- Files ----------------------------------------------------------------------------------------


def test_mean_by_hand(tmp_path):
    values = [np.array([1.0, 2, 3]), np.array([3.0, 2, -1]), np.array([5.0, 2, 1])]
    paths = [write(tmp_path / f"{i}.h5", w=v.astype("float32")) for i, v in enumerate(values)]
    average_weights(paths, tmp_path / "mean.weights.h5")
    assert_close(read(tmp_path / "mean.weights.h5")["w"], [3, 2, 1], 0)


def test_mean_is_computed_in_float64_and_written_in_its_own_type(tmp_path):
    # In float16 the sum would be infinite, and the small number would be lost beside the large.
    values = [[60000.0, 2048.0], [60000.0, 1.0], [60000.0, 1.0], [60000.0, 2.0]]
    paths = [write(tmp_path / f"{i}.h5", w=np.array(v, "float16")) for i, v in enumerate(values)]
    average_weights(paths, tmp_path / "mean.weights.h5")
    mean = read(tmp_path / "mean.weights.h5")["w"]
    assert mean.dtype == "float16"
    assert (mean == np.array([60000.0, 513.0], "float16")).all()


def test_whole_numbers_are_those_of_the_last_file(tmp_path):
    paths = [
        write(tmp_path / f"{i}.h5", seed=np.array([i, 7], "uint32"), w=np.float32(i))
        for i in (1, 2, 6)
    ]
    average_weights(paths, tmp_path / "mean.weights.h5")
    result = read(tmp_path / "mean.weights.h5")
    assert result["seed"].dtype == "uint32"
    assert (result["seed"] == [6, 7]).all()
    assert result["w"] == 3
    with h5py.File(tmp_path / "mean.weights.h5") as file:
        assert file.attrs["note"] == "6.h5"


def test_files_stay_as_they_were(tmp_path):
    paths = [write(tmp_path / f"{i}.h5", w=np.float32(i)) for i in range(3)]
    before = everything(tmp_path)
    average_weights(paths, tmp_path / "new" / "mean.weights.h5")
    shutil.rmtree(tmp_path / "new")
    assert everything(tmp_path) == before


def test_output_may_be_one_of_the_files(tmp_path):
    paths = [write(tmp_path / f"{i}.h5", w=np.float32(i)) for i in (1, 3)]
    average_weights(paths, paths[0])
    assert read(paths[0])["w"] == 2


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"w": np.zeros(2, "float32")}, "a.h5 holds layers/dense/vars/b, but .*b.h5 does not"),
        (
            {"w": np.zeros(2, "f4"), "b": np.zeros(1, "f4"), "c": np.zeros(1, "f4")},
            "b.h5 holds layers/dense/vars/c, but .*a.h5 does not",
        ),
        (
            {"w": np.zeros(3, "float32"), "b": np.zeros(1, "float32")},
            r"layers/dense/vars/w has shape \(2,\) in .*a.h5, but \(3,\) in .*b.h5",
        ),
        (
            {"w": np.zeros(2, "float16"), "b": np.zeros(1, "float32")},
            "layers/dense/vars/w has dtype float32 in .*a.h5, but float16 in .*b.h5",
        ),
    ],
)
def test_files_of_different_models_are_refused(tmp_path, other, message):
    a = write(tmp_path / "a.h5", w=np.zeros(2, "float32"), b=np.zeros(1, "float32"))
    b = write(tmp_path / "b.h5", **other)
    before = everything(tmp_path)
    with pytest.raises(InputError, match=message):
        average_weights([a, b], tmp_path / "mean.weights.h5")
    assert everything(tmp_path) == before


def test_what_has_no_mean_is_refused(tmp_path):
    path = write(tmp_path / "a.h5", w=b"text")
    with pytest.raises(
        InputError, match=r"layers/dense/vars/w in .*a.h5 is of .*can't be averaged"
    ):
        average_weights([path], tmp_path / "mean.weights.h5")


def test_what_is_no_file_of_weights_is_refused(tmp_path):
    good, bad = write(tmp_path / "a.h5", w=np.zeros(2)), tmp_path / "b.h5"
    bad.write_text("no")
    for path in (bad, tmp_path / "missing.h5"):
        with pytest.raises(InputError, match=f"{path.name} is not a file of weights"):
            average_weights([good, path], tmp_path / "mean.weights.h5")
    with pytest.raises(InputError, match="no files"):
        average_weights([], tmp_path / "mean.weights.h5")


def test_mean_of_two_models_is_the_mean_of_their_weights(tmp_path):
    models = [Transformer(MODEL) for _ in range(2)]
    for i, model in enumerate(models):
        model.save_weights(tmp_path / f"{i}.weights.h5")
    average_weights(
        [tmp_path / "0.weights.h5", tmp_path / "1.weights.h5"], tmp_path / "mean.weights.h5"
    )
    mean = Transformer(MODEL)
    mean.load_weights(tmp_path / "mean.weights.h5")
    for a, b, c in zip(*(m.trainable_variables for m in (*models, mean)), strict=True):
        assert_close(c.numpy(), (a.numpy().astype("float64") + b.numpy()) / 2, 1e-7)
    table = models[0].trainable_variables[0].numpy()
    assert np.abs(table - mean.trainable_variables[0].numpy()).max() > 0.01


# --- Runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("last", "steps"), [(None, (2, 4, 10)), (2, (4, 10)), (3, (2, 4, 10))])
def test_a_run_is_averaged_over_its_newest_checkpoints(run, tmp_path, last, steps):
    before = everything(run.path)
    new = average_run(run, tmp_path / "mean", last)
    assert new.path == tmp_path / "mean"
    every = [weights_of(run, step) for step in steps]
    model = new.load_model()
    for values in zip(model.trainable_variables, *every, strict=True):
        assert_close(values[0].numpy(), np.mean(values[1:], axis=0, dtype="float64"), 1e-7)
    assert everything(run.path) == before


def test_the_new_run_has_what_a_run_needs(run, tmp_path):
    new = RunDirectory.open(average_run(run, tmp_path / "mean").path)
    assert new.model_config() == MODEL
    assert new.training_config() == TRAINING
    assert new.tokenizer().vocabulary == TOKENIZER.vocabulary
    assert new.samples() == ["a b"]
    names = ["best.weights.h5", "config.json", "samples.txt", "vocab.txt"]
    assert sorted(everything(new.path)) == names


def test_too_few_checkpoints_are_refused(run, tmp_path):
    with pytest.raises(InputError, match=r"least 4 .* has 3\. .*--keep-checkpoints 4"):
        average_run(run, tmp_path / "mean", 4)
    for step in (2, 4):
        shutil.rmtree(run.checkpoints.folder / f"step-{step:08d}")
    with pytest.raises(InputError, match=r"least 2 .* has 1\. .*--keep-checkpoints 2"):
        average_run(run, tmp_path / "mean")
    with pytest.raises(InputError, match="must be at least 2, got 1"):
        average_run(run, tmp_path / "mean", 1)
    assert not (tmp_path / "mean").exists()


def test_an_occupied_folder_is_refused(run, tmp_path):
    (tmp_path / "mean").mkdir()
    (tmp_path / "mean" / "file").write_text("mine")
    before = everything(tmp_path)
    with pytest.raises(InputError, match="exists and is not a run"):
        average_run(run, tmp_path / "mean")
    with pytest.raises(InputError, match="holds a run already"):
        average_run(run, run.path)
    assert everything(tmp_path) == before


def test_nothing_is_left_behind_by_a_damaged_checkpoint(run, tmp_path):
    (run.checkpoints.folder / "step-00000004" / "model.weights.h5").write_text("no")
    with pytest.raises(InputError, match=r"step-00000004.* is not a file of weights"):
        average_run(run, tmp_path / "mean")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]
