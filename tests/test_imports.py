"""Tests of what importing the package brings with it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import keras_transformer

PACKAGE = Path(keras_transformer.__file__).parent
ANY_BACKEND = ("layers", "models", "decoding")
FILES = sorted(path for folder in ANY_BACKEND for path in (PACKAGE / folder).rglob("*.py"))
LOOPS = PACKAGE / "decoding" / "loops.py"
# A step of training under tf.distribute, and packing in exported graphs, are TensorFlow's alone.
TENSORFLOW = (LOOPS, PACKAGE / "layers" / "packing.py", PACKAGE / "models" / "train_step.py")
ORDER = ("layers", "models", "decoding", "training", "export")  # each may import those before it


def imported_by(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_import(node):
    return isinstance(node, ast.Import | ast.ImportFrom)


def in_a_new_process(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )


def test_importing_the_package_loads_nothing():
    code = "import sys, keras_transformer; print(*sys.modules)"
    modules = in_a_new_process(code).stdout.split()
    assert "keras_transformer" in modules
    assert not {"tensorflow", "keras", "numpy", "keras_transformer.layers"} & set(modules)


def test_subpackages_are_loaded_on_first_use_and_without_a_word():
    code = (
        "import sys, keras_transformer as kt\n"
        "print(kt.decoding.generate.__name__, 'tensorflow' in sys.modules)"
    )
    done = in_a_new_process(code)
    assert done.stdout.split() == ["generate", "True"]
    assert done.stderr == ""


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'attention'"):
        keras_transformer.attention  # noqa: B018
    assert set(dir(keras_transformer)) >= {"Translator", "layers", "models", "__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_layers_models_and_decoding_are_written_for_any_backend(path):
    allowed = {"keras", "numpy", "keras_transformer", *sys.stdlib_module_names}
    allowed |= {"tensorflow"} if path in TENSORFLOW else set()
    assert {name.split(".")[0] for name in imported_by(path)} <= allowed


def test_tensorflow_has_a_loop_of_its_own_that_is_loaded_where_it_is_the_backend():
    tree = ast.parse(LOOPS.read_text("utf-8"))
    assert all("tensorflow" not in ast.unparse(node) for node in tree.body if is_import(node))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    loading = [f.name for f in functions if any(is_import(node) for node in ast.walk(f))]
    assert loading == ["while_loop", "compiled"]
    # What runs under every backend comes back before the import.
    first = functions[0].body[1]
    assert ast.unparse(first.test) == "not SHAPES_MAY_CHANGE"
    assert isinstance(first.body[-1], ast.Return)


LIGHT = ["artefacts.generation_options", "artefacts.bulk", "cli.translate"]


@pytest.mark.parametrize("module", LIGHT)
def test_what_generation_is_asked_for_is_known_without_tensorflow(module):
    code = f"import sys, keras_transformer.{module}; print(*sys.modules)"
    modules = in_a_new_process(code).stdout.split()
    assert f"keras_transformer.{module}" in modules
    assert not {"tensorflow", "keras"} & set(modules)


@pytest.mark.parametrize("folder", ANY_BACKEND)
def test_imports_go_one_way(folder):
    paths = list((PACKAGE / folder).rglob("*.py"))
    later = ORDER[ORDER.index(folder) + 1 :]
    assert paths
    for path in paths:
        for name in imported_by(path):
            assert name.split(".")[:2] not in [["keras_transformer", other] for other in later], (
                path
            )


def test_backend_is_only_loaded_if_it_is_the_one_in_use():
    # What _backend.py does under another backend: tensorflow stands behind a condition.
    tree = ast.parse((PACKAGE / "_backend.py").read_text("utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    [loading] = [n for n in imports if any(alias.name == "tensorflow" for alias in n.names)]
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If) and loading in node.body]
    assert [ast.unparse(guard.test) for guard in guards] == [
        "keras.config.backend() == 'tensorflow'"
    ]
