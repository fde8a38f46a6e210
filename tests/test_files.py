"""Tests of keras_transformer.files."""

import json
import os

import pytest

from keras_transformer.files import replacing, write_json


def write(path, content):
    """Make a file, or a folder that holds one."""
    if path.suffix:
        path.write_text(content)
    else:
        path.mkdir()
        (path / "inside.txt").write_text(content)


def read(path):
    return (path if path.is_file() else path / "inside.txt").read_text()


def everything(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.mark.parametrize("name", ["file.txt", "folder"])
def test_nothing_is_seen_before_the_end(tmp_path, name):
    with replacing(tmp_path / name) as new:
        write(new, "new")
        assert not (tmp_path / name).exists()
        assert new.name == name
    assert read(tmp_path / name) == "new"
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["file.txt", "folder", "old"])
def test_the_old_is_replaced_as_a_whole(tmp_path, name):
    write(tmp_path / name, "old")
    if not (tmp_path / name).suffix:
        (tmp_path / name / "left-over.txt").write_text("old")
    with replacing(tmp_path / name) as new:
        write(new, "new")
        assert read(tmp_path / name) == "old"
    assert read(tmp_path / name) == "new"
    assert everything(tmp_path) == [name] + ([] if "." in name else [f"{name}/inside.txt"])


@pytest.mark.parametrize("name", ["file.txt", "folder"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_and_nothing_else(tmp_path, name, error):
    write(tmp_path / name, "old")
    before = everything(tmp_path)

    def fail():
        with replacing(tmp_path / name) as new:
            write(new, "half")
            raise error

    with pytest.raises(error):
        fail()
    assert everything(tmp_path) == before
    assert read(tmp_path / name) == "old"


@pytest.mark.parametrize("name", ["file.txt", "folder"])
def test_the_old_stays_if_nothing_was_made(tmp_path, name):
    write(tmp_path / name, "old")
    before = everything(tmp_path)
    with pytest.raises(OSError, match=name), replacing(tmp_path / name):
        pass
    assert everything(tmp_path) == before
    assert read(tmp_path / name) == "old"


def test_folders_above_are_made(tmp_path):
    with replacing(tmp_path / "a" / "b" / "c.txt") as new:
        new.write_text("x")
    assert everything(tmp_path) == ["a", "a/b", "a/b/c.txt"]


def test_a_new_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "other.txt").write_text("x")
    with replacing(tmp_path / "new.txt") as new:
        new.write_text("x")
    assert (tmp_path / "new.txt").stat().st_mode == (tmp_path / "other.txt").stat().st_mode


def test_json_is_written_for_people_and_replaced_in_one_move(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"é": [1, 2]})
    assert path.read_text("utf-8").startswith('{\n  "é"')
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})
    assert json.loads(path.read_text("utf-8")) == {"é": [1, 2]}
    assert os.listdir(tmp_path) == ["x.json"]
