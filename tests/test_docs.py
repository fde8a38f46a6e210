"""What the pages of the project say is true."""

import ast
import importlib
import re
from pathlib import Path

import pytest
from fixtures_tutorials import blocks

import keras_transformer
from keras_transformer.export import proof, quality

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
ROW = re.compile(r"\| ([A-Z]\d\d) \| (.+?) \| (.+?) \| (.+?) \|")
ROWS = ROW.findall((ROOT / "docs" / "mechanisms.md").read_text("utf-8"))


def _tests_in(path):
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_mechanisms_are_listed_once():
    ids = [row[0] for row in ROWS]
    assert len(ids) == len(set(ids)) >= 60


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_the_page_of_mechanisms_names_exists(row):
    _, _, where, shown = row
    names = re.findall(r"`(keras_transformer\.[\w.]+)`", where)
    tests = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", shown)
    experiments = re.findall(r"`(experiments/\w+\.py)`", shown)
    assert names
    assert tests or experiments
    assert len(tests) + len(experiments) == shown.count("`") / 2  # nothing else is named there
    for name in names:
        parts = name.split(".")
        for i in range(len(parts), 0, -1):
            try:
                found = importlib.import_module(".".join(parts[:i]))
                break
            except ModuleNotFoundError:
                continue
        for part in parts[i:]:
            found = getattr(found, part)
    for path, test in tests:
        assert test in _tests_in(ROOT / path), f"{path} has no {test}"
    for path in experiments:
        assert (ROOT / path).is_file()


def test_the_keras_script_in_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    script = next(block for block in _python_blocks() if "model.fit" in block)
    exec(compile(script, "README.md", "exec"), {"__name__": "__main__"})
    assert (tmp_path / "reverse.keras").is_file()
    assert capsys.readouterr().out.endswith(
        "[[17 14 12  8  8  4]\n [ 5  4  6 17 14 18]\n [12 13 19 15 14 12]]\n"
        "[[ 4  8  8 12 14 17  3]\n [18 14 17  6  4  5  3]\n [12 14 15 19 13 12  3]]\n"
    )


def test_the_tutorial_has_the_script_of_the_readme_in_parts():
    script = next(block for block in _python_blocks() if "kt.export.export" in block)
    _, parts = blocks("from-a-keras-script-to-a-phone.md")
    assert "".join(parts).split() == script.split()


def test_the_script_that_goes_to_a_phone_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quality, "ask_in_fresh_process", proof.ask_in_this_process)
    script = next(block for block in _python_blocks() if "kt.export.export" in block)
    exec(compile(script, "README.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.endswith("\n['2 7', '9 1 4']\n")
    names = {path.name for path in (tmp_path / "exported").glob("*.tflite")}
    assert names == {
        "model.tflite",
        "model.ids.tflite",
        "model.int8.tflite",
        "model.int8.ids.tflite",
    }


def test_commands_in_the_readme_name_options_that_exist():
    from typer.testing import CliRunner

    from keras_transformer.cli.app import app

    text = README.replace("\\\n", " ")
    commands = re.findall(r"keras-transformer (train|export|translate|evaluate)( --[^`\n]*)", text)
    assert {name for name, _ in commands} == {"train", "export", "translate", "evaluate"}
    for name, options in commands:
        shown = CliRunner().invoke(app, [name, "--help"]).output
        for option in re.findall(r"--[a-z-]+", options):
            assert option in shown, f"{name} has no {option}"


def test_every_experiment_has_its_command_and_a_small_figure_on_a_page():
    pages = "".join(path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
    paths = (ROOT / "experiments").glob("*.py")
    scripts = [path for path in paths if path.stem not in ("common", "claims")]
    assert scripts
    for path in scripts:
        assert f"python experiments/{path.name}" in pages
        if "--figure" in path.read_text("utf-8") or "from common" in path.read_text("utf-8"):
            assert f"](figures/{path.stem}.png)" in pages
            assert (ROOT / "docs" / "figures" / f"{path.stem}.png").stat().st_size < 100_000


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")))
def test_links_between_pages_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"


def _python_blocks():
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_site_has_a_page_of_the_api_for_every_subpackage():
    tree = ast.parse((ROOT / ".ci" / "pages.py").read_text("utf-8"))
    values = {
        ast.unparse(node.targets[0]): node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
    }
    pages = ast.literal_eval(values["API"])
    assert set(keras_transformer._SUBPACKAGES) | {"artefacts", "serving.client"} <= set(pages)
    site = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert set(pages) == set(re.findall(r": api/([\w.]+)\.md$", site, re.MULTILINE))
    assert "font: false" in site and "http" not in site  # nothing comes from elsewhere
