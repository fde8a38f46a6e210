"""Tests of the spoken English task: the wording of values, the splits, and the corpora."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from random import Random

import pytest

from keras_transformer.training.data import spoken_english
from keras_transformer.training.data.spoken_english import (
    DAYS,
    NUMBERLESS_TEMPLATES,
    TEMPLATES,
    Example,
    Value,
    cardinal,
    compose,
    date,
    examples,
    money,
    ordinal,
    percentage,
    phone,
    split_of,
    time,
    write_corpus,
)

SPLITS = ("train", "validation", "test")

WRITTEN_FORMS = {
    "cardinal": r"\d{1,4}|\d\d,\d{3}",
    "ordinal": r"\d{1,2}(st|nd|rd|th)",
    "date": r"[A-Z][a-z]+ \d{1,2}(, \d{4})?",
    "time": r"\d{1,2}:\d\d( am| pm)?",
    "money": r"[$€£]\d+(\.\d\d)?",
    "percentage": r"\d{1,2}(\.\d)?%",
    "phone": r"\d{3}-(\d{3}-)?\d{4}",
}


def all_values() -> Iterator[Value]:
    """Every value that can be drawn, except for a sample of the phone numbers and odd amounts."""
    yield from map(cardinal, range(100_000))
    yield from map(ordinal, range(1, 100))
    for month, length in enumerate(DAYS, start=1):
        for day, year in product(range(1, length + 1), (None, *range(1950, 2050))):
            yield date(month, day, year)
    for hour, minute, half_day in product(range(1, 13), range(60), ("", "am", "pm")):
        yield time(hour, minute, half_day)
    for currency in "$€£":
        yield from (money(currency, units) for units in range(1, 10_000))
        yield from (money(currency, *pair) for pair in product(range(1, 130), range(1, 100)))
    yield from (money(currency, 0, cents) for currency in "$£" for cents in range(1, 100))
    for whole, tenths in product(range(1, 100), range(10)):
        yield percentage(whole, tenths)
    rng = Random(0)
    for size in (10**6, 10**9):
        yield from (phone(str(rng.randrange(2 * size, 10 * size))) for _ in range(10_000))
        yield from (phone(str(digit * size + zeros)) for digit in range(2, 10) for zeros in (0, 11))


# --- Values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "written", "spoken"),
    [
        (cardinal(7), "7", ["seven"]),
        (cardinal(40), "40", ["forty"]),
        (cardinal(342), "342", ["three hundred forty two", "three hundred and forty two"]),
        (cardinal(1200), "1200", ["one thousand two hundred"]),
        (cardinal(9006), "9006", ["nine thousand six", "nine thousand and six"]),
        (
            cardinal(12_345),
            "12,345",
            [
                "twelve thousand three hundred forty five",
                "twelve thousand three hundred and forty five",
            ],
        ),
        (ordinal(1), "1st", ["first"]),
        (ordinal(2), "2nd", ["second"]),
        (ordinal(5), "5th", ["fifth"]),
        (ordinal(8), "8th", ["eighth"]),
        (ordinal(11), "11th", ["eleventh"]),
        (ordinal(12), "12th", ["twelfth"]),
        (ordinal(21), "21st", ["twenty first"]),
        (ordinal(40), "40th", ["fortieth"]),
        (ordinal(99), "99th", ["ninety ninth"]),
        (date(3, 3), "March 3", ["the third of march", "march third", "march the third"]),
        (
            date(5, 22, 2024),
            "May 22, 2024",
            [
                "the twenty second of may twenty twenty four",
                "may twenty second twenty twenty four",
                "may the twenty second twenty twenty four",
            ],
        ),
        (
            date(12, 31, 2005),
            "December 31, 2005",
            [
                "the thirty first of december two thousand five",
                "the thirty first of december two thousand and five",
                "december thirty first two thousand five",
                "december thirty first two thousand and five",
                "december the thirty first two thousand five",
                "december the thirty first two thousand and five",
            ],
        ),
        (time(6, 25), "6:25", ["six twenty five", "twenty five past six"]),
        (time(8, 45), "8:45", ["eight forty five", "quarter to nine"]),
        (time(12, 50), "12:50", ["twelve fifty", "ten to one"]),
        (time(2, 30), "2:30", ["two thirty", "half past two"]),
        (time(6, 5), "6:05", ["six oh five", "five past six"]),
        (time(6, 0), "6:00", ["six o'clock"]),
        (time(6, 0, "am"), "6:00 am", ["six o'clock in the morning", "six a m"]),
        (time(4, 41, "pm"), "4:41 pm", ["four forty one in the afternoon", "four forty one p m"]),
        (
            time(9, 15, "pm"),
            "9:15 pm",
            ["nine fifteen in the evening", "quarter past nine in the evening", "nine fifteen p m"],
        ),
        (money("$", 42, 10), "$42.10", ["forty two dollars and ten cents"]),
        (money("$", 5), "$5", ["five dollars"]),
        (money("$", 0, 10), "$0.10", ["ten cents"]),
        (money("$", 1, 1), "$1.01", ["one dollar and one cent"]),
        (money("€", 42, 10), "€42.10", ["forty two euros and ten cents"]),
        (money("£", 7), "£7", ["seven pounds"]),
        (money("£", 1, 5), "£1.05", ["one pound and five pence"]),
        (
            money("€", 2060),
            "€2060",
            ["two thousand sixty euros", "two thousand and sixty euros"],
        ),
        (percentage(12), "12%", ["twelve percent"]),
        (percentage(12, 5), "12.5%", ["twelve point five percent"]),
        (
            phone("5550123"),
            "555-0123",
            [
                "five five five zero one two three",
                "five five five oh one two three",
                "five double five zero one two three",
                "five double five oh one two three",
            ],
        ),
        (phone("2345678"), "234-5678", ["two three four five six seven eight"]),
        (
            phone("5558675309"),
            "555-867-5309",
            [
                "five five five eight six seven five three zero nine",
                "five five five eight six seven five three oh nine",
                "five double five eight six seven five three zero nine",
                "five double five eight six seven five three oh nine",
            ],
        ),
    ],
    ids=lambda part: part.written if isinstance(part, Value) else "",
)
def test_value_is_written_and_spoken(value, written, spoken):
    assert value.written == written
    assert list(value.spoken) == spoken


def test_compose_puts_values_into_a_sentence():
    readings = [
        ("twenty five past six", "6:25"),
        ("the third of march", "March 3"),
        ("forty two dollars and ten cents", "$42.10"),
    ]
    assert compose("the train leaves at {} on {} and costs {}", readings) == Example(
        spoken="the train leaves at twenty five past six on the third of march "
        "and costs forty two dollars and ten cents",
        written="the train leaves at 6:25 on March 3 and costs $42.10",
        values=("6:25", "March 3", "$42.10"),
    )


def test_sentence_without_values_stays_as_it_is():
    assert compose("you may wait a second", []) == Example(*["you may wait a second"] * 2, ())


# --- One spoken form, one written form ------------------------------------------------------------


def test_no_spoken_value_has_two_written_forms():
    written_forms = {}
    for value in all_values():
        assert len(value.spoken) == len(set(value.spoken))
        for spoken in value.spoken:
            assert written_forms.setdefault(spoken, value.written) == value.written, spoken


def test_no_spoken_sentence_has_two_written_forms():
    written_forms = {}
    for split, count, seed in (("train", 30_000, 0), ("train", 15_000, 1), ("test", 5_000, 0)):
        for example in examples(split, count, seed):
            written = written_forms.setdefault(example.spoken, example.written)
            assert written == example.written, example.spoken


def test_words_around_values_are_never_read_as_part_of_them():
    value_words = {word for value in all_values() for form in value.spoken for word in form.split()}
    links = {"a", "and", "in", "of", "the", "to"}  # in values these only join other value words
    rng = Random(0)
    for template in TEMPLATES.splitlines() * 50:
        pattern, kinds = spoken_english._choose(template, rng)
        assert 1 <= len(kinds) <= 3
        before, *between, after = (set(part.split()) for part in pattern.split("{}"))
        assert value_words.intersection(before.union(*between, after)) <= links, pattern
        assert all(words - value_words for words in between), pattern
        assert "a {ordinal}" not in template  # "a second" is a time, not a rank


# --- Splits ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpora() -> dict[str, list[Example]]:
    sizes = {"train": 20_000, "validation": 2_000, "test": 2_000}
    return {split: list(examples(split, size)) for split, size in sizes.items()}


def test_no_value_is_in_two_splits(corpora):
    def values(split: str) -> set[str]:
        # Without year or half of the day, the parts which the choice of a split leaves out.
        found = {value for example in corpora[split] for value in example.values}
        return found | {re.sub(r", \d{4}$| [ap]m$", "", value) for value in found}

    assert values("train").isdisjoint(values("test"))
    assert values("train").isdisjoint(values("validation"))
    assert values("validation").isdisjoint(values("test"))


def test_values_are_split_about_eighty_ten_ten():
    found = [split_of(str(number)) for number in range(100, 10_000)]
    assert found.count("train") / len(found) == pytest.approx(0.8, abs=0.02)
    assert found.count("test") / len(found) == pytest.approx(0.1, abs=0.02)


def test_values_said_in_one_word_are_for_training():
    for number in (2, 12, 19, 20, 90):
        assert split_of(cardinal(number).written) == "train"
        assert split_of(ordinal(number).written) == "train"


def test_year_and_half_day_do_not_change_the_split():
    assert {split_of(f"6:25{half_day}") for half_day in ("", " am", " pm")} == {split_of("6:25")}
    assert split_of("March 3, 2024") == split_of("March 3, 1999") == split_of("March 3")


@pytest.mark.parametrize("split", SPLITS)
def test_every_kind_occurs_in_every_split(corpora, split):
    values = {value for example in corpora[split] for value in example.values}
    for kind, form in WRITTEN_FORMS.items():
        found = {value for value in values if re.fullmatch(form, value)}
        assert len(found) >= 5, kind
        values -= found
    assert not values


# --- Corpora --------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_sentences_are_plain_short_and_unique(corpora, split):
    corpus = corpora[split]
    for example in corpus:
        assert re.fullmatch("[a-z']+( [a-z']+)*", example.spoken)
        assert len(example.spoken.split()) <= 30
        assert all(value in example.written for value in example.values)
        assert bool(example.values) == (example.spoken != example.written)
    assert len({example.spoken for example in corpus}) == len(corpus)
    assert 0.02 < sum(not example.values for example in corpus) / len(corpus) < 0.07


def test_same_seed_gives_the_same_examples():
    first = list(examples("train", 200, seed=3))
    assert list(examples("train", 200, seed=3)) == first
    assert list(examples("train", 100, seed=3)) == first[:100]
    assert list(examples("train", 200, seed=4)) != first


def test_examples_do_not_depend_on_the_hash_seed_of_the_process():
    code = (
        "import runpy, sys; examples = runpy.run_path(sys.argv[1])['examples']; "
        "print(*(pair.spoken for pair in examples('test', 50)), sep='\\n')"
    )
    expected = [example.spoken for example in examples("test", 50)]
    for hash_seed in ("1", "2"):
        output = subprocess.run(
            [sys.executable, "-c", code, spoken_english.__file__],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        assert output.splitlines() == expected


def test_templates_are_many():
    assert len(set(TEMPLATES.splitlines())) >= 60
    assert len(set(NUMBERLESS_TEMPLATES.splitlines())) >= 10


def test_unknown_split_is_an_error():
    with pytest.raises(ValueError, match="'dev'"):
        examples("dev", 10)


@pytest.mark.parametrize("count", [0, -3])
def test_count_must_be_positive(count):
    with pytest.raises(ValueError, match=f"not {count}"):
        examples("train", count)


def test_write_corpus_writes_parallel_files(tmp_path):
    directory = tmp_path / "new" / "corpus"
    write_corpus(directory, {"train": 30, "test": 10}, seed=5)
    assert sorted(path.name for path in directory.iterdir()) == [
        "test.spoken",
        "test.written",
        "train.spoken",
        "train.written",
    ]
    for split, size in (("train", 30), ("test", 10)):
        pairs = list(examples(split, size, seed=5))
        for side in ("spoken", "written"):
            text = (directory / f"{split}.{side}").read_bytes().decode("utf-8")
            assert text == "".join(getattr(pair, side) + "\n" for pair in pairs)


@pytest.mark.parametrize("sizes", [{"train": 5, "dev": 5}, {"train": 5, "test": 0}])
def test_write_corpus_checks_sizes_before_writing(tmp_path, sizes):
    with pytest.raises(ValueError, match="must be"):
        write_corpus(tmp_path / "corpus", sizes)
    assert not (tmp_path / "corpus").exists()
