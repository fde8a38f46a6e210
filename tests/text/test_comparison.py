"""Tests of keras_transformer.text.comparison and of the command `tokenizers`.

Also: cli.tokenizers.
"""

import random

import pytest

from keras_transformer.cli.tokenizers import tokenizers
from keras_transformer.errors import InputError
from keras_transformer.text import compare_tokenizers, learn_vocabulary
from keras_transformer.text.comparison import _by_likelihood

STEMS = "walk talk play jump look call cook climb paint count".split()  # noqa: SIM905
ENDINGS = ["", "s", "ed", "ing", "er", "ers"]


def sentences(count, seed=0):
    """Text in which forms of words turn up late that their other forms tell of."""
    rng = random.Random(seed)
    weights = [1 / (i + 1) ** 2 for i in range(len(STEMS) * len(ENDINGS))]
    words = [stem + ending for ending in ENDINGS for stem in STEMS]
    return [" ".join(rng.choices(words, weights, k=6)) + "." for _ in range(count)]


@pytest.fixture(scope="module")
def rows():
    return {row.name: row for row in compare_tokenizers(sentences(300), 300)}


def test_characters_are_the_longest_and_words_the_shortest(rows):  # C50
    words, characters = rows["words"], rows["characters"]
    for name in ("WordPiece by count", "WordPiece by likelihood", "byte pairs"):
        between = rows[name]
        assert words.tokens_per_line < between.tokens_per_line < characters.tokens_per_line
    assert characters.characters_per_token == 1


def test_words_are_lost_and_pieces_are_not(rows):  # C50, K01, K02, K09
    assert rows["words"].out_of_vocabulary > 0.005
    assert rows["characters"].out_of_vocabulary == rows["byte pairs"].out_of_vocabulary == 0
    assert rows["WordPiece by count"].out_of_vocabulary < rows["words"].out_of_vocabulary


def test_unknown_characters_are_lost_but_to_byte_pairs():  # C50
    lines = ["the cat sat"] * 18 + ["the 猫 sat", "the cat sit"]
    found = {row.name: row.out_of_vocabulary for row in compare_tokenizers(lines, 300)}
    assert found["byte pairs"] == 0
    assert found["characters"] == 2 / 6
    assert found["WordPiece by count"] == 2 / 6
    assert found["words"] == 2 / 6


def test_what_is_measured_is_what_it_is_called():
    lines = ["a b"] * 9 + ["a b", "a cc"]  # the last is held out
    words, characters, *_ = compare_tokenizers(lines, 270, width=10)
    assert (words.name, words.vocabulary_size, words.embedding_parameters) == ("words", 6, 60)
    assert (words.tokens_per_line, words.characters_per_token) == (2, 2)
    assert words.out_of_vocabulary == 0.5
    assert (characters.vocabulary_size, characters.tokens_per_line) == (7, 4)


def test_both_rules_of_wordpiece_are_measured_at_one_size():  # C60
    rng = random.Random(0)
    words = ["".join(rng.choices(["ba", "ko", "ri", "sta", "u", "nt"], k=4)) for _ in range(200)]
    lines = [" ".join(rng.choices(words, k=8)) for _ in range(400)]
    rows = {row.name: row for row in compare_tokenizers(lines, 270)}
    by_count, by_likelihood = (rows[f"WordPiece by {rule}"] for rule in ("count", "likelihood"))
    assert by_count.vocabulary_size == by_likelihood.vocabulary_size == 270
    # They give different pieces. Which are the longer ones is not for a test to say.
    assert by_count.characters_per_token != by_likelihood.characters_per_token
    assert all(row.characters_per_token > 1 for row in (by_count, by_likelihood))


def test_likelihood_takes_the_greatest_count_that_fills_the_vocabulary():
    rng = random.Random(0)
    words = ["".join(rng.choices("abcd", k=rng.randint(2, 5))) for _ in range(8)]
    lines = [" ".join(rng.choices(words, [8, 7, 6, 5, 4, 3, 2, 1], k=60))]

    def at_least(count):
        return learn_vocabulary(lines, 16, score="likelihood", min_frequency=count)

    greatest = max(n for n in range(1, 60) if len(at_least(n)) == 16)
    assert greatest == 15
    assert at_least(2) != at_least(8) != at_least(15)  # 8 is found on the way
    assert _by_likelihood(lines, 16) == at_least(15)
    assert len(_by_likelihood(lines, 500)) < 500  # nothing fills it


def test_the_command_shows_a_table(tmp_path, capsys):
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{line}\n" for line in sentences(60)))
    tokenizers(path, 280)
    output = capsys.readouterr().out.splitlines()
    assert output[0].split() == [
        *["tokeniser", "pieces", "tokens/line", "chars/token", "unknown", "parameters"]
    ]
    assert [line.split("  ")[0] for line in output[1:6]] == [
        *["words", "characters", "WordPiece by count", "WordPiece by likelihood", "byte pairs"]
    ]
    assert max(map(len, output)) <= 80
    byte_pairs = output[5].split()
    assert byte_pairs[2] == "280" and byte_pairs[5:] == ["0.00%", f"{280 * 512:,}"]


@pytest.mark.parametrize(
    ("content", "size", "message"),
    [
        (None, 300, "There is no file"),
        (b"\xff\n" * 20, 300, "line 1: not UTF-8"),
        (b"a\n" * 9, 300, r"can't be compared on .*text\.txt: the text has 9 lines"),
        (b"a b\n" * 20, 200, "vocabulary_size is 200, but 260 entries are needed"),
        (b"\n" * 20, 300, "can't be compared on .*: texts holds no word"),
    ],
)
def test_bad_input_is_named(tmp_path, content, size, message):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        tokenizers(path, size)
