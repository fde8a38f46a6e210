"""Tests of keras_transformer.extensions: who may add a row, and what is refused."""

import importlib.metadata

import pytest

from keras_transformer.errors import InputError
from keras_transformer.extensions import Table


class Base:
    """What rows are derived from."""


class Own(Base):
    """A row of the table itself."""


class Other(Base):
    """A row of somebody else's."""


@pytest.fixture
def table():
    return Table("keras_transformer.tests", "kind", Base, {"own": Own})


@pytest.fixture
def points(monkeypatch):
    """Sets the entry points that are installed, as `name = value` pairs."""

    def install(**values):
        found = [
            importlib.metadata.EntryPoint(name.rstrip("_"), value, "keras_transformer.tests")
            for name, value in values.items()
        ]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found)

    return install


def test_an_entry_point_is_a_row(table, points):
    assert list(table) == ["own"] and "theirs" not in table
    points(theirs="collections:OrderedDict")
    assert list(table) == ["own", "theirs"] and len(table) == 2 and "theirs" in table
    table.base = dict
    assert table["theirs"].__name__ == "OrderedDict"
    assert table["own"] is Own
    with pytest.raises(KeyError):
        table["nobody's"]


def test_a_row_can_be_registered_twice_but_not_taken_away(table):
    assert table.register("more", Other) is Other
    assert dict(table) == {"own": Own, "more": Other}
    table.register("more", Other)  # a cell of a notebook that is run again
    with pytest.raises(InputError, match="is already a kind 'own'; choose another name"):
        table.register("own", Other)


@pytest.mark.parametrize("row", [dict, Own(), None, "tests:Other"])
def test_what_is_no_class_of_the_kind_is_refused(table, points, row):
    with pytest.raises(InputError, match="must give a class derived from Base, got"):
        table.register("more", row)
    points(theirs="collections:OrderedDict")
    with pytest.raises(InputError, match=r"entry point theirs = 'collections:OrderedDict' in"):
        table["theirs"]


@pytest.mark.parametrize("value", ["no_such_module_here:Other", "collections:NoSuchClass"])
def test_an_entry_point_that_can_not_be_loaded_is_named(table, points, value):
    points(theirs=value)
    assert "theirs" in table  # nothing is loaded before it is chosen
    with pytest.raises(InputError, match=f"theirs = '{value}' .* can't be loaded: .*[nN]o "):
        table["theirs"]


def test_two_packages_can_not_share_a_name(table, points):
    points(own="collections:OrderedDict")
    assert table["own"] is Own
    with pytest.raises(InputError, match="has the name of another kind; rename it"):
        list(table)
    points(theirs="collections:OrderedDict", theirs_="collections:Counter")
    with pytest.raises(InputError, match="rename one of them"):
        list(table)


def test_a_row_that_is_registered_and_installed_is_one(table, points):
    table.base = dict
    table.register("theirs", importlib.import_module("collections").Counter)
    points(theirs="collections:Counter")
    assert list(table) == ["own", "theirs"]


def test_rows_may_be_instances_where_a_table_says_so():
    table = Table("group", "row", Base, {}, instances=True)
    row = Base()
    assert table.register("one", row) is table["one"] is row
    with pytest.raises(InputError, match="must give a Base, got <class"):
        table.register("two", Base)
