"""Tests of what importing the package brings with it.

Also: _lazy, _quiet, _backend, _tensorflow.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_transformer
from keras_transformer import export, training

PACKAGE = Path(keras_transformer.__file__).parent
ANY_BACKEND = ("layers", "models", "decoding")
FILES = sorted(path for folder in ANY_BACKEND for path in (PACKAGE / folder).rglob("*.py"))
LOOPS = PACKAGE / "decoding" / "loops.py"
# A step of training under tf.distribute, and packing in exported graphs, are TensorFlow's alone.
TENSORFLOW = (LOOPS, PACKAGE / "layers" / "packing.py", PACKAGE / "models" / "train_step.py")
# The rooms, the lowest first: each may import those before it, inside functions as well.
ROOMS = (
    *(
        "_lazy",
        "typing",
        "_quiet",
        "_backend",
        "_tensorflow",
        "errors",
        "files",
        "locks",
        "options",
        *("extensions", "artefacts"),
    ),
    *("layers", "models", "decoding", "text", "pipelines", "training", "export"),
    *("serving", "recipes", "cli"),
)
# What is imported inside of functions, and why not above. The commands of cli do it throughout, so
# that help and errors in arguments come at once.
IMPORTED_LATE = {
    "text/learner.py": "progress bars are an extra of a module that needs no package",
    "layers/packing.py": "TensorFlow, under another backend",
    "decoding/loops.py": "TensorFlow, under another backend",
    "serving/transports.py": "gRPC takes long to load, and REST does without",
    "training/config.py": "what it makes needs TensorFlow, and its options are the command's",
    "training/data/records.py": "TensorFlow, which pictures alone need",
    "export/folder.py": "tokenisers, so that names are known without TensorFlow",
    "export/proof.py": "the other side of it, which asks in a process of its own",
    "export/runtime.py": "each file needs a runtime of its own",
    "export/tf_serving.py": "TensorFlow Serving's messages take long to load",
}


def imported_by(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_import(node):
    return isinstance(node, ast.Import | ast.ImportFrom)


def is_function(node):
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


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


LIGHT = [
    *("typing", "files", "locks", "artefacts", "artefacts.generation_options", "artefacts.bulk"),
    *("text.learner", "serving.client", "cli.app", "cli.train", "cli.translate"),
    *("training.config", "training.data.corpora", "export.folder"),
]


def test_what_needs_no_tensorflow_loads_none():
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(f'keras_transformer.{name}')\n"
        "    loaded = {'tensorflow', 'keras', 'torch'} & set(sys.modules)\n"
        "    assert not loaded, f'{name} loads {loaded}'"
    )
    subprocess.run([sys.executable, "-c", code, *LIGHT], timeout=120, check=True)


def room_of(path):
    return path.relative_to(PACKAGE_OF[path]).parts[0].removesuffix(".py")


PACKAGE_OF = {
    **dict.fromkeys(PACKAGE.rglob("*.py"), PACKAGE),
    **{
        path: Path(part.__file__).parent.parent
        for part in (training, export)
        for path in Path(part.__file__).parent.rglob("*.py")
    },
}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room):
    paths = [path for path in PACKAGE_OF if room_of(path) == room]
    assert paths
    above = ROOMS[ROOMS.index(room) + 1 :]
    for path in paths:
        rooms = {name.split(".")[1] for name in imported_by(path) if name.startswith("keras_tr")}
        assert not rooms & set(above), f"{path} imports {rooms & set(above)}"


def test_every_module_has_a_room():
    assert {room_of(path) for path in PACKAGE_OF} == {*ROOMS, "__init__", "__main__"}


def test_imports_inside_of_functions_are_known():
    late = set()
    for path in PACKAGE_OF:
        functions = [
            node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if is_function(node)
        ]
        if any(is_import(node) for function in functions for node in ast.walk(function)):
            late.add(path.relative_to(PACKAGE_OF[path]).as_posix())
    assert {path for path in late if not path.startswith("cli/")} == set(IMPORTED_LATE)


def test_backend_is_only_loaded_if_it_is_the_one_in_use():
    # What _backend.py does under another backend: tensorflow stands behind a condition.
    tree = ast.parse((PACKAGE / "_backend.py").read_text("utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    [loading] = [n for n in imports if any(alias.name == "tensorflow" for alias in n.names)]
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If) and loading in node.body]
    assert [ast.unparse(guard.test) for guard in guards] == [
        "keras.config.backend() == 'tensorflow'"
    ]


def modules():
    """Yield the dotted name of each module, without that of the package."""
    for path, package in PACKAGE_OF.items():
        parts = path.relative_to(package).with_suffix("").parts
        if parts[-1] not in ("__init__", "__main__"):
            yield ".".join(parts)


def test_every_module_has_its_test_file():
    tests = Path(__file__).parent
    by_name, named = set(), set()
    for path in tests.rglob("test_*.py"):
        folders = path.relative_to(tests).parts[:-1]
        by_name.add(".".join([*folders, path.stem.removeprefix("test_")]))
        text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        listed = re.findall(r"^Also: (.*?)\.$", text, re.DOTALL | re.MULTILINE)
        named |= {name for names in listed for name in re.split(r",\s+", names)}
    wanted = set(modules())
    assert named - {"recipes"} <= wanted, f"there is no {named - wanted}"
    untested = wanted - by_name - named
    assert not untested, f"no test file says that it tests {untested}"
