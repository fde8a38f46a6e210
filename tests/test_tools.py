"""Tests of .ci/tools, which installs what tests run beside Python, on machines made of stubs."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
THERE = {"chromium": "", "chromedriver": "", "cc": ""}
APT = {"apt-get": 'echo "apt-get $*" >> "$0.log"'}
ROOT_USER, PERSON = {"id": "echo 0"}, {"id": "echo 1000"}


@pytest.fixture
def tools(tmp_path):
    """Runs the script where nothing is but some programs; gives what apt was told as well."""

    def run(*programs):
        for name, body in {k: v for some in programs for k, v in some.items()}.items():
            (tmp_path / name).write_text(f"#!{shutil.which('bash')}\n{body}\n")
            (tmp_path / name).chmod(0o755)
        for name in ("bash", "env"):
            (tmp_path / name).symlink_to(shutil.which(name))
        done = subprocess.run(
            [ROOT / ".ci" / "tools"], env={"PATH": str(tmp_path)}, capture_output=True, text=True
        )
        log = tmp_path / "apt-get.log"
        told = log.read_text().splitlines() if log.exists() else []
        return done.returncode, done.stderr, [line.split(" -qq ")[1] for line in told]

    return run


@pytest.mark.parametrize("compiler", ["cc", "gcc", "clang"])
def test_nothing_is_done_where_everything_is(tools, compiler):
    there = {"chromium": "", "chromedriver": "", compiler: ""}
    assert tools(there, APT, ROOT_USER) == (0, "", [])


@pytest.mark.parametrize(
    ("absent", "packages"),
    [
        (["chromium"], "chromium"),
        (["chromedriver"], "chromium-driver"),
        (["cc"], "gcc libc6-dev"),
        (["chromium", "chromedriver", "cc"], "chromium chromium-driver gcc libc6-dev"),
    ],
)
def test_what_is_missing_is_installed_by_root(tools, absent, packages):
    there = {name: "" for name in THERE if name not in absent}
    status, _, told = tools(there, APT, ROOT_USER)
    assert (status, told) == (0, ["update", f"install --yes --no-install-recommends {packages}"])


def test_or_by_sudo_without_a_password(tools):
    status, _, told = tools(APT, PERSON, {"sudo": 'shift; "$@"', "true": ""})
    assert status == 0 and told[1].endswith(" chromium chromium-driver gcc libc6-dev")


@pytest.mark.parametrize(
    "machine",
    [
        [ROOT_USER],  # no apt
        [APT, PERSON],  # no sudo
        [APT, PERSON, {"sudo": "exit 1"}],  # a password is asked for
        [ROOT_USER, {"apt-get": "exit 100"}],  # no network
    ],
)
def test_elsewhere_a_sentence_says_what_to_install(tools, machine):
    status, error, told = tools({"cc": ""}, *machine)
    assert (status, told) == (1, [])
    assert error.splitlines()[-1] == (
        "The tests need chromium chromium-driver: install them first, on Debian by `apt-get "
        "install chromium chromium-driver` as root."
    )
    assert len(error.splitlines()) == 1 or "exit 100" in machine[1].get("apt-get", "")


def test_make_and_the_checks_of_changes_take_the_same_way():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in ("test", "coverage"):
        assert re.search(rf"^{target}: tools ", makefile, re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text("utf-8")
