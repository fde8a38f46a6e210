"""Tests of what a release is made of: .ci/release.py, the constraints and the hooks."""

import importlib.util
import re
import subprocess
from importlib.metadata import requires
from pathlib import Path

import pytest

from keras_transformer import DISTRIBUTION, __version__

ROOT = Path(__file__).parents[1]


def load_script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


release = load_script("release")


@pytest.fixture
def tree(tmp_path):
    """A repository with a version, its section in the changelog, and nothing to commit."""
    (tmp_path / "keras_transformer").mkdir()
    (tmp_path / "keras_transformer" / "__init__.py").write_text('__version__ = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [1.2.3] - 2030-01-31\n\n- More.\n")
    commit(tmp_path)
    return tmp_path


def commit(tree):
    who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "A change"]):
        subprocess.run(["git", *command], cwd=tree, check=True)


def test_a_tree_that_is_clean_and_described_can_be_released(tree):
    assert release.find_version(tree) == "1.2.3"
    assert release.find_problem(tree, "1.2.3") is None


def test_changes_that_are_not_committed_are_refused(tree):
    (tree / "new.py").write_text("")
    assert "changes, such as in new.py; commit them" in release.find_problem(tree, "1.2.3")
    with pytest.raises(SystemExit, match="error: The tree has changes"):
        release.main(tree)
    assert not (tree / "dist").exists()


@pytest.mark.parametrize(
    "heading", ["## [1.2.30] - 2030-01-31", "## [1x2.3] - 2030-01-31", "## [1.2.3]", "## 1.2.3"]
)
def test_a_version_without_a_section_is_refused(tree, heading):
    (tree / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n\n- More.\n")
    commit(tree)
    assert "no section of the version 1.2.3" in release.find_problem(tree, "1.2.3")


def test_the_version_has_its_section_in_the_changelog():
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert release.find_version(ROOT) == __version__
    sections = re.findall(r"^## \[(.+?)\](?: - (.+))?$", changelog, re.MULTILINE)
    assert sections[0] == ("Unreleased", "") and sections[1][0] == __version__
    kinds = set(re.findall(r"^### (.+)$", changelog, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_every_requirement_is_constrained_to_one_version_that_it_allows():
    from packaging.requirements import Requirement

    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    pinned = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pinned.items()}
    wanted = [Requirement(text) for text in requires(DISTRIBUTION)]
    bench = [w for w in wanted if w.marker and "bench" in str(w.marker)]
    for requirement in wanted:
        if requirement in bench:  # peers to measure beside, which no test needs
            continue
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert requirement.specifier.contains(pinned[name], prereleases=True), requirement
    assert not any("/" in line or "@" in line for line in lines[1:])


def test_hooks_run_the_tools_of_the_environment_and_fetch_nothing():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    assert re.findall(r"repo: (.+)", hooks) == ["local"]
    entries = re.findall(r"entry: (.+)", hooks)
    *of_environment, types = entries
    assert len(entries) == 3 and all(entry.startswith(".venv/bin/") for entry in of_environment)
    assert types == ".ci/mypy" and ".venv/bin/mypy" in (ROOT / types).read_text("utf-8")
