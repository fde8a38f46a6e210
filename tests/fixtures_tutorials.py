"""What the tests of tutorials share: the code of a page, installed as a reader would install it."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[1] / "docs" / "tutorials"
BLOCK = re.compile(r'^```\w+(?: title="([\w.]+)")?\n(.*?)^```', re.DOTALL | re.MULTILINE)


def blocks(page):
    """Return the code blocks of a page: those with a title by it, all others in a list."""
    found = BLOCK.findall((PAGES / page).read_text("utf-8"))
    return {title: code for title, code in found if title}, [c for t, c in found if not t]


def commands(code):
    """Return the commands of a block as lists of words, without the name of the program."""
    lines = code.replace("\\\n", " ").splitlines()
    return [line.split()[1:] for line in lines if line.startswith("keras-transformer ")]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs the files of a page, a module and an entry point, and goes to a new folder."""

    def put(page):
        files, others = blocks(page)
        project = tomllib.loads(files["pyproject.toml"])["project"]
        site = tmp_path / "site"
        info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
        (group, points), *more = project["entry-points"].items()
        assert not more and len(points) == 1  # one line
        lines = "".join(f"{name} = {value}\n" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[{group}]\n{lines}")
        module = next(iter(points.values())).split(":")[0]
        (site / f"{module}.py").write_text(files[f"{module}.py"])  # one file
        monkeypatch.syspath_prepend(site)
        monkeypatch.delitem(sys.modules, module, raising=False)
        work = tmp_path / "work"
        work.mkdir()
        monkeypatch.chdir(work)
        return files, others

    return put
