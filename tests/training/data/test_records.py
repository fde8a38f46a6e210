"""Tests of keras_transformer.training.data.records."""

import gzip
import json

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_transformer.errors import InputError
from keras_transformer.training.data.records import (
    ImageFolder,
    Records,
    check_labels,
    label_set,
    read_records,
)

COLUMNS = ("text", "label")


def put(path, content):
    content = content if isinstance(content, bytes) else content.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


# --- Reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.tsv", "one two\tx\n\ty\n é\t \n", [("one two", "x"), ("", "y"), (" é", " ")]),
        ("a.tsv", "text\tlabel\na\tb\ntext\tlabel\n", [("a", "b"), ("text", "label")]),
        ("a.tsv", "\ufefftext\tlabel\r\na\tb\r\n", [("a", "b")]),
        ("a.TSV", "label\ttext\nx\ty\n", [("y", "x")]),
        ("a.tsv", 'a "b\t"c\n', [('a "b', '"c')]),  # quotes are text
        ("a.jsonl", '{"label": "x", "text": "a\\tb", "more": null}\n', [("a\tb", "x")]),
        (
            "a.json",
            '{"text": "", "label": 3}\n{"text": 1.50, "label": -2e9}\n',
            [("", "3"), ("1.50", "-2e9")],
        ),
        ("a.jsonl", '{"text": ["New", "York"], "label": true}', [("New York", "true")]),
        ("a.jsonl", '{"text": [], "label": [1, 2.0]}', [("", "1 2.0")]),
        (
            "a.jsonl",
            '{"text": "\\ud83d\\ude00", "label": 9' + "9" * 5000 + "}",
            [("😀", "9" * 5001)],
        ),
    ],
)
def test_examples_are_read(tmp_path, name, content, expected, packed):
    path = put(tmp_path / f"{name}{packed}", content)
    assert list(read_records(path, COLUMNS)) == expected
    records = Records(path, COLUMNS)
    assert list(records) == list(records) == expected  # again and again
    assert records.check() == len(expected)


@pytest.mark.parametrize("name", ["a.txt", "a", "a.de", "a.tab.gz"])
def test_other_files_are_lines(tmp_path, name):
    path = put(tmp_path / name, 'a\tb\n\n{"text": 1}\n')
    assert list(read_records(path, ["text"])) == [("a\tb",), ("",), ('{"text": 1}',)]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.integers()), max_size=5
    )
)
def test_what_was_written_as_json_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("json") / "a.jsonl"
    for ascii_only in (False, True):
        lines = [
            json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=ascii_only)
            for row in rows
        ]
        put(path, "".join(f"{line}\n" for line in lines))
        assert list(read_records(path, COLUMNS)) == [(text, str(label)) for text, label in rows]


GOOD = '{"text": "a", "label": "b"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "a\tb\nc\n", r"a\.tsv, line 2: 1 fields, but 2 are wanted \(text, label\)"),
        ("a.tsv", "a\tb\nc\td\te\n", r"a\.tsv, line 2: 3 fields, but 2 .* one tab between"),
        ("a.tsv", "a\tb\n\n", r"a\.tsv, line 2: 1 fields"),
        ("a.tsv", b"a\tb\n\xff\tb\n", r"a\.tsv, line 2: not UTF-8"),
        ("a.tsv.gz", "a\n", r"a\.tsv\.gz, line 1: 1 fields"),
        ("a.jsonl", GOOD + "{'text': 1}\n", r"a\.jsonl, line 2: no JSON .*\"text\": \.\.\."),
        ("a.jsonl", GOOD + "\n", r"a\.jsonl, line 2: no JSON"),
        ("a.jsonl", "[" * 20_000, r"a\.jsonl, line 1: no JSON \(nested too deeply\)"),
        ("a.json", '[\n{"text": "a", "label": "b"}\n]', r"a\.json, line 1: no JSON"),
        ("a.jsonl", GOOD + "[1]\n", r"line 2: no JSON object with the keys text, label"),
        (
            "a.jsonl",
            GOOD + '{"text": "a", "lable": 1}',
            "line 2: the key 'label' is missing; there is text, la",
        ),
        ("a.jsonl", GOOD + "{}", r"line 2: the key 'text' is missing; there is none"),
        (
            "a.jsonl",
            '{"text": null, "label": 1}',
            r"line 1: the value of 'text' is null; it must be a",
        ),
        ("a.jsonl", '{"text": "a", "label": {}}', r"line 1: the value of 'label' is an object"),
        ("a.jsonl", '{"text": ["a", null], "label": 1}', r"'text' is a list of other things"),
        (
            "a.jsonl",
            '{"text": "\\ud800", "label": 1}',
            r"line 1: .*'text' holds half of a surrogate",
        ),
        (
            "a.txt",
            "a\tb\n",
            r"a\.txt is taken for lines of text.* 2 are wanted .* \.jsonl, \.tsv or \.csv",
        ),
        ("a.tsv", None, r"There is no file .*a\.tsv"),
    ],
)
def test_what_can_not_be_read_is_named_with_its_line(tmp_path, name, content, message):
    if content is not None:
        put(tmp_path / name, content)
    for read in (
        lambda: list(read_records(tmp_path / name, COLUMNS)),
        lambda: Records(tmp_path / name, COLUMNS).check(),
    ):
        with pytest.raises(InputError, match=message):
            read()


@pytest.mark.parametrize(("name", "content"), [("a.tsv", "text\tlabel\n"), ("a.jsonl", "")])
def test_files_without_examples_are_refused(tmp_path, name, content):
    put(tmp_path / name, content)
    with pytest.raises(InputError, match=f"{name} is empty: there is no example"):
        Records(tmp_path / name, COLUMNS).check()


def test_many_files_are_read_in_sorted_order(tmp_path):
    put(tmp_path / "b.tsv", "3\tb\n")
    put(tmp_path / "a.tsv", "text\tlabel\n1\ta\n2\ta\n")
    put(tmp_path / "c.tsv.gz", "")
    records = Records(tmp_path / "*.tsv*", COLUMNS)
    assert [path.name for path in records.paths] == ["a.tsv", "b.tsv", "c.tsv.gz"]
    assert [text for text, _ in records] == ["1", "2", "3"]
    assert records.check() == 3
    assert [place.rpartition("/")[2] for place, _ in records.located()] == [
        "a.tsv, line 2",
        "a.tsv, line 3",
        "b.tsv, line 1",
    ]
    put(tmp_path / "*.tsv*", "9\tz\n")  # what exists is no pattern
    with pytest.raises(InputError, match="taken for lines of text"):
        records.check()
    with pytest.raises(InputError, match=r"No file matches .*x\*"):
        Records(tmp_path / "x*", COLUMNS).check()


@pytest.mark.parametrize("columns", [(), ("a", "a"), "text"])
def test_columns_have_names(tmp_path, columns):
    for make in (Records, read_records):
        with pytest.raises(InputError, match="Columns must be names, each given once"):
            make(tmp_path / "a", columns)


def test_nothing_is_held_but_a_line(tmp_path):
    put(tmp_path / "a.tsv", "a\tb\n" * 3 + "broken\n")
    records = iter(Records(tmp_path / "a.tsv", COLUMNS))
    assert [next(records) for _ in range(3)] == [("a", "b")] * 3  # before the fourth is looked at
    with pytest.raises(InputError, match="line 4"):
        next(records)


# --- Labels ---------------------------------------------------------------------------------------


def test_labels_are_collected_and_sorted(tmp_path):
    records = Records(put(tmp_path / "a.tsv", "b\tno\na\tyes\nc\tno\n"), COLUMNS)
    assert label_set(records, "label") == ["no", "yes"]
    assert label_set(records, "text") == ["a", "b", "c"]
    check_labels(records, "label", ["yes", "no", "perhaps"])


@pytest.mark.parametrize(
    ("content", "column", "message"),
    [
        ("a\tx\nb\tx\n", "label", "at least two labels to choose from, but there is only 'x'"),
        ("", "label", "but there is none"),
        ("a\tx\nb\t \n", "label", r"a\.tsv, line 2: the label in column label is empty"),
        ("a\tx\n", "lable", "There is no column 'lable'; there is text, label"),
    ],
)
def test_labels_that_are_no_choice_are_refused(tmp_path, content, column, message):
    records = Records(put(tmp_path / "a.tsv", content), COLUMNS)
    with pytest.raises(InputError, match=message):
        label_set(records, column)


def test_the_first_unknown_label_is_named(tmp_path):
    put(tmp_path / "a.tsv", "text\tlabel\na\tyes\n")
    put(tmp_path / "b.tsv", "a\tno\nb\tmaybe\nc\tnever\n")
    records = Records(tmp_path / "?.tsv", COLUMNS)
    with pytest.raises(
        InputError, match=r"b\.tsv, line 2: the label 'maybe' .* the labels are yes, no\."
    ):
        check_labels(records, "label", ["yes", "no"])
    many = [f"l{i}" for i in range(1000)]
    with pytest.raises(InputError, match=r"a\.tsv, line 2: .* l9 and 990 more\."):
        check_labels(records, "label", many)


# --- Pictures -------------------------------------------------------------------------------------

ENCODERS = {
    ".png": tf.io.encode_png,
    ".JPG": tf.io.encode_jpeg,
    ".jpeg": tf.io.encode_jpeg,
}


@pytest.fixture
def pictures(tmp_path):
    """A folder of two classes, and what is to be read from it."""
    pixels = tf.constant(3, tf.uint8, [40, 50, 3])
    made = []
    for label in ("dog", "cat"):
        for i, (ending, encode) in enumerate(ENCODERS.items()):
            path = put(tmp_path / label / f"{i}{ending}", encode(pixels).numpy())
            made.append((str(path), label))
    put(tmp_path / "dog" / ".DS_Store", "no picture")
    put(tmp_path / "README.txt", "no class")
    (tmp_path / ".git").mkdir()
    return tmp_path, sorted(made)


def test_pictures_are_read_by_class(pictures):
    path, expected = pictures
    folder = ImageFolder(path)
    assert (folder.columns, folder.labels) == (("path", "label"), ["cat", "dog"])
    assert list(folder) == list(folder) == expected
    assert folder.check() == 6
    assert label_set(folder, "label") == folder.labels
    with pytest.raises(InputError, match=r"cat/0\.png: the label 'cat'"):
        check_labels(folder, "label", ["dog", "cow"])


@pytest.mark.parametrize("ending", [".bmp", ".gif"])
def test_other_kinds_of_pictures_are_known(pictures, ending):
    path, expected = pictures
    smallest = {
        ".gif": "47494638396101000100800100000000ffffff21f904010000"
        "01002c000000000100010000020144003b",
        ".bmp": "424d3a0000000000000036000000280000000100000001000000010018000000000004000000"
        "0000000000000000000000000000000001020300",
    }
    put(path / "cat" / f"x{ending}", bytes.fromhex(smallest[ending]))
    assert ImageFolder(path).check() == len(expected) + 1


def damage(path, cut):
    content = path.read_bytes()
    path.write_bytes(content[:cut] if cut >= 0 else content[: len(content) + cut])


@pytest.mark.parametrize("name", ["0.png", "1.JPG", "2.jpeg"])
@pytest.mark.parametrize("cut", [0, 3, 40, -12])
def test_damaged_pictures_are_found(pictures, name, cut):
    path, _ = pictures
    damage(path / "dog" / name, cut)
    with pytest.raises(InputError, match=rf"dog/{name} can't be decoded: it is damaged"):
        ImageFolder(path).check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda path: put(path / "dog" / "notes.txt", ""),
            r"dog/notes\.txt is not a picture with a known",
        ),
        (
            lambda path: put(path / "dog" / "x.webp", ""),
            r"dog/x\.webp is not a picture .*\.png, .*\.gif",
        ),
        (lambda path: put(path / "dog" / "more" / "x.png", ""), "dog/more is not a picture"),
        (lambda path: (path / "dog" / "more.png").mkdir(), r"dog/more\.png is not a picture"),
        (lambda path: (path / "ape").mkdir(), "ape holds no pictures: fill the folder, or remove"),
        (lambda path: put(path / "x.png", ""), r"x\.png is in no class: move it"),
        (
            lambda path: (path / "cat").rename(path / ".cat"),
            "at least two classes, but there is only dog",
        ),
    ],
)
def test_what_is_no_class_of_pictures_is_named(pictures, change, message):
    path, _ = pictures
    change(path)
    with pytest.raises(InputError, match=message):
        ImageFolder(path).check()


def test_a_folder_must_be_there_and_hold_classes(tmp_path):
    with pytest.raises(InputError, match="but there is none"):
        ImageFolder(tmp_path).check()
    for path in (tmp_path / "no", put(tmp_path / "file", "")):
        with pytest.raises(InputError, match=f"{path.name} can't be read as a folder"):
            ImageFolder(path).check()
