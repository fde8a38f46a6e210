"""Tests of training.tables: headers in any order, quotes, and what is refused."""

import gzip

import pytest
from fixtures_run import quiet
from fixtures_tasks import examples, make_task_run

from keras_transformer.errors import InputError
from keras_transformer.training.data.records import Records, read_records
from keras_transformer.training.tasks.registry import training_of
from keras_transformer.training.trainer import train

__all__ = ["examples"]

COLUMNS = ("text", "label")


def rows_of(path, content, columns=COLUMNS):
    path.write_bytes(content.encode())
    return list(read_records(path, columns))


@pytest.mark.parametrize(("ending", "mark"), [("tsv", "\t"), ("csv", ",")])
@pytest.mark.parametrize(
    "header",
    [
        None,
        ["text", "label"],
        ["label", "text"],
        [" Text", "LABEL "],
        ["id", "label", "more", "text"],
    ],
)
def test_a_header_names_the_columns_in_any_order(tmp_path, ending, mark, header):
    examples = [{"text": "a dog", "label": "good"}, {"text": "a cat", "label": "bad"}]
    names = [name.strip().casefold() for name in header or COLUMNS]
    lines = [[example.get(name, "other") for name in names] for example in examples]
    lines = [header, *lines] if header else lines
    content = "".join(mark.join(line) + "\n" for line in lines)
    assert rows_of(tmp_path / f"x.{ending}", content) == [("a dog", "good"), ("a cat", "bad")]


@pytest.mark.parametrize(("ending", "mark"), [("tsv", "\t"), ("csv", ",")])
@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("text|sentiment", "line 1: the line names text, but not label"),
        ("sentence|Label", "line 1: the line names label, but not text"),
        ("text|label|text", "line 1: the line names text, label, but text twice"),
    ],
)
def test_a_header_of_some_of_the_columns_is_refused(tmp_path, ending, mark, header, message):
    path = tmp_path / f"x.{ending}"
    with pytest.raises(InputError, match=message) as refused:
        rows_of(path, f"{header.replace('|', mark)}\na dog{mark}good\n")
    assert "put a line with the names above it" in str(refused.value)
    above = f"text{mark}label\n"
    rows = rows_of(path, f"{above}text{mark}good\n")  # which is what the message says
    assert rows == [("text", "good")]


def test_a_header_counts_in_each_file_of_a_pattern(tmp_path):
    (tmp_path / "1.tsv").write_text("label\ttext\ngood\ta dog\n")
    (tmp_path / "2.tsv").write_text("a cat\tbad\n")
    assert list(Records(tmp_path / "*.tsv", COLUMNS)) == [("a dog", "good"), ("a cat", "bad")]


def test_a_word_that_is_a_columns_name_is_no_header_further_down(tmp_path):
    rows = rows_of(tmp_path / "x.tsv", "a dog\tgood\ntext\tlabel\n")
    assert rows == [("a dog", "good"), ("text", "label")]


def test_quoted_fields_hold_commas_quotes_and_line_breaks(tmp_path):
    content = 'label,text\r\ngood,"a ""dog"", small"\r\nbad,"two\r\nlines"\r\n\r\nbad,"größer"\r\n'
    expected = [('a "dog", small', "good"), ("two\nlines", "bad"), ("größer", "bad")]
    assert rows_of(tmp_path / "x.csv", content) == expected
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(content.encode()))
    assert list(read_records(tmp_path / "x.csv.gz", COLUMNS)) == expected
    long = "a" * 300_000
    assert rows_of(tmp_path / "x.csv", f"{long},good\n") == [(long, "good")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('a dog,"good\n', "line 1: no CSV"),
        ('a dog,good\na "cat"x,"b"x\n', "line 2: no CSV"),
        ("a dog,good\na cat, a bird,bad\n", "line 2: 3 fields, but 2 are wanted .*one comma"),
        ("id,text,label\n1,a dog,good\na cat,bad\n", "line 3: 2 fields, but 3 are wanted"),
    ],
)
def test_damaged_csv_names_the_line(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        rows_of(tmp_path / "x.csv", content)


def test_labels_and_their_counts_are_shown_when_training_starts(examples, tmp_path):
    run = make_task_run(tmp_path / "run", examples, "classification", "labels.tsv", steps=1)
    rows = list(Records(examples / "train-labels.tsv", COLUMNS))
    counts = {label: sum(row[1] == label for row in rows) for label in ("good", "bad")}
    assert training_of(run).measure({}, "training").labels == counts
    console = quiet()
    train(run, console)
    most, least = sorted(counts.items(), key=lambda item: -item[1])
    assert f"labels: {most[0]} {most[1]}, {least[0]} {least[1]}" in console.file.getvalue()


def test_the_words_of_a_swapped_header_are_no_labels(tmp_path, examples):
    lines = (examples / "train-labels.tsv").read_text().splitlines()
    swapped = ["label\ttext", *("\t".join(reversed(line.split("\t"))) for line in lines)]
    for part in ("train", "valid"):
        (tmp_path / f"{part}-labels.tsv").write_text("\n".join(swapped) + "\n")
    run = make_task_run(tmp_path / "run", tmp_path, "classification", "labels.tsv", steps=1)
    assert run.task_settings().labels == ("bad", "good")
