"""Tests that what is loaded is data: nothing in a model's files is ever run as a program."""

import ast
import contextlib
import hashlib
import importlib
import json
import pickle
import shutil
import sys
import warnings
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from fixtures_export import exported, trained
from fixtures_run import asked_for, quiet

import keras_transformer
from keras_transformer.errors import InputError
from keras_transformer.export import runtime
from keras_transformer.export.model_card import ops_of
from keras_transformer.layers import LearnedPositions
from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.training.run.run_directory import RunDirectory
from keras_transformer.training.trainer import train

__all__ = ["exported", "trained"]

ROOT = Path(keras_transformer.__file__).parents[1]
FILES = sorted(
    path
    for folder in ("keras_transformer", "training", "export")
    for path in (ROOT / folder).rglob("*.py")
)


# --- The source -----------------------------------------------------------------------------------

LOADERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
RUNNERS = {"eval", "exec", "compile", "__import__", "enable_unsafe_deserialization"}


def unsafe_in(source):
    """Yield what of a module could run what it has read."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] in LOADERS)
        elif isinstance(node, ast.ImportFrom):
            if node.module and node.module.split(".")[0] in LOADERS:
                yield node.module
            yield from (alias.name for alias in node.names if alias.name in RUNNERS)
        elif isinstance(node, ast.Name) and node.id in RUNNERS:
            yield node.id
        elif isinstance(node, ast.Attribute) and node.attr == "enable_unsafe_deserialization":
            yield node.attr
        elif isinstance(node, ast.Call):
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", None)
                if keyword.arg == "allow_pickle" and value is not False:
                    yield "allow_pickle"
                if keyword.arg == "safe_mode" and value is not True:
                    yield "safe_mode"
                if keyword.arg == "shell" and value is not False:
                    yield "shell"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_can_run_what_it_reads(path):
    assert list(unsafe_in(path.read_text("utf-8"))) == []


def test_all_modules_are_looked_at():
    assert {"exporter.py", "translator.py", "checkpoints.py", "loops.py"} <= {p.name for p in FILES}
    assert len(FILES) > 60


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import dill.source",
        "from marshal import loads",
        "from keras.config import enable_unsafe_deserialization",
        "keras.config.enable_unsafe_deserialization()",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "keras.models.load_model(path, safe_mode=False)",
        "eval(text)",
        "run = exec",
        "subprocess.run(text, shell=True)",
    ],
)
def test_what_is_looked_for_is_found(line):
    assert len(list(unsafe_in(line))) == 1


# --- .keras files ---------------------------------------------------------------------------------


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def saved(tmp_path):
    """Save a model of ours as a `.keras` file."""
    config = TransformerConfig(13, 1, 2, 8, 16, max_length=9, positions="learned")
    model = Transformer(config)
    model.save(tmp_path / "model.keras")
    return model, tmp_path / "model.keras"


def with_config(path, change):
    """Change the configuration inside a `.keras` file."""
    other = path.with_name("changed.keras")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config).encode()
            new.writestr(name, content)
    return other


def test_our_models_load_in_safe_mode(tmp_path):
    model, path = saved(tmp_path)
    loaded = keras.models.load_model(path, safe_mode=True)
    assert isinstance(loaded, Transformer)
    assert all(
        np.array_equal(a, b) for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True)
    )
    # A layer in somebody's own model too.
    inputs = keras.Input((4, 8))
    keras.Model(inputs, LearnedPositions(8)(inputs)).save(tmp_path / "own.keras")
    keras.models.load_model(tmp_path / "own.keras", safe_mode=True)


def test_a_function_inside_a_keras_file_is_not_run(tmp_path):
    mark = tmp_path / "ran"
    name = str(mark)
    layer = keras.layers.Lambda(lambda x: (open(name, "w").close(), x)[1], output_shape=(4,))
    inputs = keras.Input((4,))
    keras.Model(inputs, layer(inputs)).save(tmp_path / "trap.keras")
    mark.unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"safe_mode|unsafe"):
        keras.models.load_model(tmp_path / "trap.keras")
    assert not mark.exists()
    keras.models.load_model(tmp_path / "trap.keras", safe_mode=False)(np.zeros((1, 4)))
    assert mark.exists()  # the trap is one


@pytest.fixture
def foreign_module(tmp_path, monkeypatch):
    """A module that can be imported, and the file that it leaves behind if it is."""
    mark = tmp_path / "ran"
    code = f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nclass Transformer: pass\n"
    (tmp_path / "foreign_module.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield mark
    sys.modules.pop("foreign_module", None)


def test_a_foreign_module_inside_a_keras_file_is_not_loaded(tmp_path, foreign_module):
    _, path = saved(tmp_path)

    def foreign(config):
        config.update(module="foreign_module", registered_name=None)

    with pytest.raises((TypeError, ValueError), match=r"foreign_module|Could not"):
        keras.models.load_model(with_config(path, foreign))
    assert not foreign_module.exists()
    importlib.import_module("foreign_module")
    assert foreign_module.exists()  # the trap is one


def test_a_foreign_optimizer_inside_a_keras_file_is_not_loaded(tmp_path, foreign_module):
    _, path = saved(tmp_path)

    def foreign(config):
        config["compile_config"] = {
            "optimizer": {"module": "foreign_module", "class_name": "Transformer", "config": {}},
            "loss": "mse",
        }

    # What can't be compiled as it was is left uncompiled, of which Keras warns.
    with contextlib.suppress(TypeError, ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras.models.load_model(with_config(path, foreign))
    assert not foreign_module.exists()


# --- Runs and artefacts ---------------------------------------------------------------------------


def test_an_array_in_a_checkpoint_that_is_a_pickle_is_refused(trained, tmp_path):
    mark = tmp_path / "ran"
    run = RunDirectory(shutil.copytree(trained.run.path, tmp_path / "run"))
    newest = run.checkpoints.newest()
    with np.load(newest / "variables.npz") as file:
        arrays = dict(file)
    first = next(iter(arrays))
    trap = np.empty((), dtype=object)
    trap[()] = Trap(mark)
    np.savez(newest / "variables.npz", **{**arrays, first: trap})
    sums = json.loads((newest / "checksums.json").read_text())
    digest = hashlib.sha256((newest / "variables.npz").read_bytes()).hexdigest()
    (newest / "checksums.json").write_text(json.dumps({**sums, "variables.npz": digest}))
    assert run.checkpoints.newest() == newest  # whole, as far as can be told without a look inside
    asked_for(run, steps=300)
    with pytest.raises(InputError, match="allow_pickle"):
        train(run, quiet())
    assert not mark.exists()
    np.load(newest / "variables.npz", allow_pickle=True)[first]
    assert mark.exists()  # the trap is one


@pytest.mark.parametrize("suffix", [".tflite", ".keras", ".pkl", ".h5"])
def test_a_pickle_is_no_model_whatever_its_name(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    with pytest.raises(InputError):
        runtime.load(path)
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_a_pickle_are_refused(trained, tmp_path):
    run = RunDirectory(shutil.copytree(trained.run.path, tmp_path / "run"))
    run.best_path.write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    with pytest.raises(InputError, match="does not fit the model or is damaged"):
        runtime.load(run.path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "activation",
    [
        "foreign_module.Transformer",
        {"module": "foreign_module", "class_name": "Transformer", "config": {}},
        {"module": "foreign_module", "class_name": "function", "config": "Transformer"},
    ],
)
def test_the_configuration_of_a_run_names_no_code(trained, tmp_path, foreign_module, activation):
    run = RunDirectory(shutil.copytree(trained.run.path, tmp_path / "run"))
    fields = json.loads(run.config_path.read_text())
    fields["model"]["activation"] = activation
    run.config_path.write_text(json.dumps(fields))
    message = r"config\.json(: activation must be a text| makes no model: Could not)"
    with pytest.raises(InputError, match=message):
        runtime.load(run.path)
    assert not foreign_module.exists()


def test_an_exported_graph_calls_no_python_and_touches_no_file(exported):
    ops = set(ops_of(exported.paths["savedmodel"] / "1"))
    assert not {op for op in ops if "PyFunc" in op or op in ("ReadFile", "WriteFile", "Print")}
    # Nothing is left for Keras, which would rebuild layers from what a file says.
    assert not list(exported.paths["savedmodel"].rglob("keras_metadata*"))
