"""Build a wheel and a source archive into dist/ and check them. Nothing is uploaded.

It refuses a tree with changes that are not committed, and a version without a section in the
changelog.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main(root: Path = ROOT) -> None:
    """Build the release of the version that the package has."""
    version = find_version(root)
    if problem := find_problem(root, version):
        sys.exit(f"error: {problem}")
    shutil.rmtree(root / "dist", ignore_errors=True)
    python = [sys.executable, "-m"]
    subprocess.run([*python, "build", "--no-isolation"], cwd=root, check=True)
    archives = sorted((root / "dist").iterdir())
    subprocess.run([*python, "twine", "check", "--strict", *archives], cwd=root, check=True)
    print(f"{version} is in dist/: {', '.join(path.name for path in archives)}")


def find_version(root: Path) -> str:
    """Return the version of the package, read from its source."""
    source = (root / "keras_transformer" / "__init__.py").read_text("utf-8")
    found = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    assert found is not None
    return found[1]


def find_problem(root: Path, version: str) -> str | None:
    """Return why a version can't be released as the tree is, or None."""
    status = ["git", "status", "--porcelain"]
    changed = subprocess.run(status, cwd=root, capture_output=True, text=True, check=True).stdout
    if changed:
        first = changed.splitlines()[0][3:]
        return f"The tree has changes, such as in {first}; commit them first."
    changelog = (root / "CHANGELOG.md").read_text("utf-8")
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$"
    if not re.search(heading, changelog, re.MULTILINE):
        return (
            f"CHANGELOG.md has no section of the version {version} with a date; write the heading "
            f"## [{version}] - YYYY-MM-DD above what is new."
        )
    return None


if __name__ == "__main__":
    main()
