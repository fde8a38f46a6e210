"""Tests of keras_transformer.training.data.corpora."""

import gzip
import io
import sys
from pathlib import Path

import pytest
from fixtures_data import write

from keras_transformer.errors import InputError
from keras_transformer.files import read_lines
from keras_transformer.training.data.corpora import (
    Mixture,
    ParallelFiles,
    make_corpus,
    read_pairs,
)

__all__ = ["write"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a b\nc\n", ["a b", "c"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"\n\n a \n", ["", "", " a "]),
        ("é\u2028ü\x85\x1c\v\fx\n".encode(), ["é\u2028ü\x85\x1c\v\fx"]),
        (b"", []),
        (
            b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n",
            ["a", "\ufeffb"],
        ),  # a mark is one at the beginning only
        (b"\xef\xbb\xbf", [""]),
    ],
)
@pytest.mark.parametrize("kind", ["plain", "gz", "-"])
def test_lines_are_read(tmp_path, monkeypatch, content, expected, kind):
    path = tmp_path / ("text.gz" if kind == "gz" else "text")
    path.write_bytes(gzip.compress(content, mtime=0) if kind == "gz" else content)
    if kind == "-":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), "ascii"))
        path = "-"
    assert list(read_lines(path)) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.txt", b"a\nb \xff c\n", r"bad\.txt, line 2: not UTF-8 .* byte 2.*iconv"),
        ("latin.txt", "Männer\n".encode("latin-1"), r"latin\.txt, line 1: not UTF-8"),
        ("bad.gz", gzip.compress(b"\xff", mtime=0), r"bad\.gz, line 1: not UTF-8"),
        ("no.gz", b"not packed", r"no\.gz can't be read"),
        ("cut.gz", gzip.compress(b"a\n" * 1000, mtime=0)[:20], r"cut\.gz can't be read"),
        (
            "broken.gz",
            gzip.compress(b"ab\n" * 9, mtime=0)[:10] + b"\xff" * 20,
            r"broken\.gz can't be read",
        ),
        ("missing.txt", None, r"There is no file .*missing\.txt"),
    ],
)
def test_what_can_not_be_read_is_named(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_lines(tmp_path / name))


def test_a_folder_can_not_be_read(tmp_path):
    with pytest.raises(InputError, match=tmp_path.name):
        list(read_lines(tmp_path))


def test_parallel_files_are_counted(write):
    files = write([("a", "b"), ("", ""), ("c", "d")])
    assert files.check() == 3
    assert list(files.lines()) == ["a", "", "c", "b", "", "d"]


@pytest.mark.parametrize("short", ["source", "target"])
def test_different_lengths_are_refused_with_both_counts(write, short):
    files = write([("a", "b")] * 2005)
    path = getattr(files, short)
    path.write_text("a\n" * 1002)
    with pytest.raises(InputError) as raised:
        files.check()
    message = str(raised.value)
    assert f"{short}.txt has 1,002 lines" in message
    assert "has 2,005: line 1,003 is missing in" in message


def test_empty_files_are_refused(write):
    with pytest.raises(InputError, match=r"source\.txt and .*target\.txt are empty"):
        write([]).check()


def test_a_carriage_return_inside_a_line_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"one\r\ntwo\r\n")
    (tmp_path / "b").write_bytes(b"eins\nz\rwei\n")
    with pytest.raises(InputError, match="b, line 2: a carriage return"):
        ParallelFiles(tmp_path / "a", tmp_path / "b").check()


# --- Many files -----------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    """Writes files of text, given as name and lines, and returns their folder."""

    def make(**contents):
        for name, lines in contents.items():
            path = tmp_path / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(f"{line}\n" for line in lines))
        return tmp_path

    return make


def names(pairs):
    return [(source.name, target.name) for source, target in pairs]


def test_files_of_patterns_are_paired_in_sorted_order(files):
    folder = files(b_en="34", a_en="12", a_de="AB", b_de="CD", c_fr="x")
    corpus = ParallelFiles(folder / "*.en", folder / "*.de")
    assert names(corpus.pairs) == [("a.en", "a.de"), ("b.en", "b.de")]
    assert corpus.check() == 4
    assert list(corpus.lines()) == [*"1234ABCD"]


def test_a_pattern_may_name_folders(files):
    folder = files(x__a_en="1", y__a_en="2", x__a_de="1", y__a_de="2")
    for pattern in ("*/a", "**/[a]", "?/a"):
        corpus = ParallelFiles(folder / f"{pattern}.en", folder / f"{pattern}.de")
        assert [source.parent.name for source, _ in corpus.pairs] == ["x", "y"]


def test_a_name_that_exists_is_no_pattern(tmp_path, monkeypatch):
    folder = tmp_path / "[data]"
    folder.mkdir()
    for name in ("a*.en", "a1.en", "[a].de", "a.de"):
        (folder / name).write_text("x\n")
    corpus = ParallelFiles(folder / "a*.en", folder / "[a].de")
    assert names(corpus.pairs) == [("a*.en", "[a].de")]
    several = ParallelFiles(folder / "a?.en", folder / "[a].de")  # "a*.en" matches "a?.en", too
    with pytest.raises(InputError, match="different numbers of files, 2 and 1"):
        several.check()
    monkeypatch.chdir(folder)
    assert names(ParallelFiles(Path("a1.en"), Path("a.de")).pairs) == [("a1.en", "a.de")]


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("*.en", "*.de", r"\*\.en and .*\*\.de are different numbers of files, 2 and 1: they are"),
        ("a.en", "*.en", r"a\.en and .*\*\.en are different numbers of files, 1 and 2"),
        ("*.fr", "*.de", r"No file matches .*\*\.fr\."),
        ("no/*.en", "*.de", r"No file matches .*no/\*\.en\."),
        ("no/a.en", "*.de", r"There is no file .*no/a\.en\."),
        ("a.en/a", "*.de", r"There is no file .*a\.en/a\."),
        ("a.en", "a.de", r"a\.de has 1 lines, but .*a\.en has 2: line 2 is missing in"),
        ("b.en", "a.de", r"b\.en has 0 lines, but .*a\.de has 1: line 1 is missing in"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(files, source, target, message):
    folder = files(a_en="12", b_en="", a_de="A")
    with pytest.raises(InputError, match=message):
        ParallelFiles(folder / source, folder / target).check()


def test_one_file_may_be_empty_but_not_all(files):
    folder = files(a_en="", b_en="1", a_de="", b_de="A")
    assert ParallelFiles(folder / "*.en", folder / "*.de").check() == 1
    with pytest.raises(InputError, match=r"a\*\.en and .*a\*\.de are empty"):
        ParallelFiles(folder / "a*.en", folder / "a*.de").check()


# --- Mixtures -------------------------------------------------------------------------------------


def test_a_mixture_without_weights_is_one_text(files):
    folder = files(a_en="1", a_de="A", b1_en="23", b1_de="BC", b2_en="4", b2_de="D")
    parts = [ParallelFiles(folder / f"{name}.en", folder / f"{name}.de") for name in ("a", "b*")]
    mixture = Mixture(tuple(parts))
    assert mixture.check() == 4
    assert names(mixture.pairs) == [("a.en", "a.de"), ("b1.en", "b1.de"), ("b2.en", "b2.de")]
    assert sorted(mixture.lines()) == [*"1234ABCD"]
    assert (mixture.groups, mixture.shares) == ([mixture.pairs], [1.0])
    weighted = Mixture(tuple(parts), (3, 1))
    assert weighted.groups == [part.pairs for part in parts]
    assert weighted.shares == [0.75, 0.25]


def test_names_become_a_corpus():
    one = make_corpus(["a"], ["b"])
    assert one == make_corpus(["a"], ["b"], [5.0]) == ParallelFiles(Path("a"), Path("b"))
    assert (one.shares, make_corpus(["a"], ["b"], [])) == ([1.0], one)
    two = make_corpus(["a", "c*"], ["b", "d*"], [1, 2])
    assert two == Mixture((one, ParallelFiles(Path("c*"), Path("d*"))), (1, 2))


@pytest.mark.parametrize(
    ("sources", "targets", "weights", "message"),
    [
        ("ab", "c", None, "The numbers of sources and targets differ, 2 and 1; give each source"),
        ("ab", "cd", [1.0], "The numbers of texts and weights differ, 2 and 1; give one weight a"),
        ("a", "c", [1.0, 2.0], "The numbers of texts and weights differ, 1 and 2"),
        ("ab", "cd", [1.0, 0.0], "A weight must be positive, got 0.0; leave the text out"),
        ("ab", "cd", [-1.0, 1.0], "A weight must be positive, got -1.0"),
        ("ab", "cd", [1.0, float("nan")], "A weight must be positive, got nan"),
        ("ab", "cd", [1.0, float("inf")], "A weight must be positive, got inf"),
        ("", "", None, "A mixture needs a text"),
    ],
)
def test_texts_that_make_no_corpus_are_refused(sources, targets, weights, message):
    with pytest.raises(InputError, match=message):
        make_corpus([*sources], [*targets], weights)


# --- Pairs ----------------------------------------------------------------------------------------


def put(path, content):
    path.write_bytes(
        gzip.compress(content.encode(), mtime=0) if path.suffix == ".gz" else content.encode()
    )
    return path


def test_parallel_lines_are_two_columns(tmp_path):
    one, two = put(tmp_path / "a.en", "a\n\nb\n"), put(tmp_path / "a.de.gz", "x\ny\nz")
    expected = [("a", "x"), ("", "y"), ("b", "z")]
    assert list(read_pairs(one, two)) == expected
    pairs = ParallelFiles(tmp_path / "*.en", tmp_path / "*.de.gz")
    assert (pairs.columns, list(pairs), list(pairs)) == (("source", "target"), expected, expected)
    assert pairs.check() == 3
    assert [place for place, _ in pairs.located()][2] == f"{one}, line 3"


@pytest.mark.parametrize(("source", "target"), [("a\nb\n", "x\n"), ("x\n", "a\nb\n")])
def test_a_line_without_its_partner_is_named(tmp_path, source, target):
    one, two = put(tmp_path / "one", source), put(tmp_path / "two", target)
    short, long = ("two", "one") if len(source) > len(target) else ("one", "two")
    for read in (lambda: list(read_pairs(one, two)), lambda: list(ParallelFiles(one, two))):
        with pytest.raises(InputError, match=f"{short} has 1 lines, but .*{long} has 2: line 2"):
            read()
    with pytest.raises(InputError, match=f"line 2 is missing in .*{short}"):
        ParallelFiles(one, two).check()


def test_pairs_have_two_columns(tmp_path):
    with pytest.raises(InputError, match="A pair has two columns of different names, got a, b, c"):
        ParallelFiles(tmp_path, tmp_path, ("a", "b", "c"))
    with pytest.raises(InputError, match="of different names, got a, a"):
        ParallelFiles(tmp_path, tmp_path, ("a", "a"))
