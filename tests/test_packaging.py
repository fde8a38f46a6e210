import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_wheel_holds_the_package_and_puts_no_other_name_into_site_packages(tmp_path):
    tree = tmp_path / "tree"
    ignore = shutil.ignore_patterns(".*", "runs", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, tree, ignore=ignore)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path]
    subprocess.run([*command, tree], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("keras_transformer-*.whl")
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
    modules = {name for name in names if name.endswith(".py")}
    for folder, inside in (
        ("keras_transformer", ""),
        ("training", "training/"),
        ("export", "export/"),
    ):
        for path in (ROOT / folder).rglob("*.py"):
            name = f"keras_transformer/{inside}{path.relative_to(ROOT / folder)}"
            assert name in modules, name


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
