import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras_transformer
from keras_transformer import DISTRIBUTION

ROOT = Path(__file__).parents[1]


def test_wheel_holds_the_package_and_puts_no_other_name_into_site_packages(tmp_path):
    tree = tmp_path / "tree"
    ignore = shutil.ignore_patterns(".*", "runs", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, tree, ignore=ignore)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path]
    subprocess.run([*command, tree], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("keras_transformer_anywhere-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {
        "keras_transformer"
    }
    modules = (ROOT / "keras_transformer").rglob("*.py")
    assert {f"{path.relative_to(ROOT)}" for path in modules} <= set(names)
    recipes = (ROOT / "keras_transformer" / "recipes").glob("*.toml")
    assert {f"{path.relative_to(ROOT)}" for path in recipes} <= set(names)
    page = ROOT / "keras_transformer" / "serving" / "page"
    assert {f"{path.relative_to(ROOT)}" for path in page.iterdir()} <= set(names)
    assert "keras_transformer/py.typed" in names  # so that type checkers read our annotations
    modules = {name for name in names if name.endswith(".py")}
    for folder, inside in (
        ("keras_transformer", ""),
        ("training", "training/"),
        ("export", "export/"),
    ):
        for path in (ROOT / folder).rglob("*.py"):
            name = f"keras_transformer/{inside}{path.relative_to(ROOT / folder)}"
            assert name in modules, name


def test_nothing_tells_to_install_the_other_project_of_that_name():
    """The name without "anywhere" belongs to somebody else on the index of packages."""
    other = re.compile(r"pip3? install[^\n]*keras[-_.]transformer(?![-_]anywhere)", re.IGNORECASE)
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    paths = [ROOT / name for name in files if name] or [*ROOT.glob("*.md"), *ROOT.glob("*/*.py")]
    texts = [path for path in paths if path.suffix in {".py", ".md", ".cfg", ".toml", ".html", ""}]
    assert len(texts) > 50
    for path in texts:
        if path.is_file():
            assert not other.search(path.read_text("utf-8")), path
    command = "pip install"  # apart, so that this file does not tell it
    assert other.search(f"{command} 'keras-transformer[bench]'")
    assert importlib.metadata.metadata(DISTRIBUTION)["Name"] == "keras-transformer-anywhere"
    assert importlib.metadata.version(DISTRIBUTION) == keras_transformer.__version__


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, keras_transformer as kt; "
        "assert not {'keras', 'tensorflow', 'numpy', 'rich'} & set(sys.modules); "
        "assert {'layers', 'models', 'text', 'decoding', 'training', 'export'} <= set(dir(kt)); "
        "kt.layers.MultiHeadAttention; assert 'keras' in sys.modules"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr
    assert child.stderr == ""  # not a word from TensorFlow
