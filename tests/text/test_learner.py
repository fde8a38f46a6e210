"""Tests of keras_transformer.text.learner."""

import os
import random
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest

from keras_transformer.text import learner
from keras_transformer.text.learner import SPECIAL_TOKENS, count_words, learn_vocabulary

# The corpus of the Hugging Face course's chapter on WordPiece.
HUGS = ["hug " * 10 + "pug " * 5 + "pun " * 12 + "bun " * 4 + "hugs " * 5]


def merged_pieces(texts, size=10_000, special_tokens=("[PAD]",), **options):
    """Learns from the texts and leaves out the special tokens and the alphabet."""
    vocabulary = learn_vocabulary(texts, size, special_tokens=special_tokens, **options)
    alphabet = [p for p in vocabulary if len(p) == 1 or (p.startswith("##") and len(p) == 3)]
    assert vocabulary[: len(special_tokens) + len(alphabet)] == [*special_tokens, *alphabet]
    return vocabulary[len(special_tokens) + len(alphabet) :]


def reference_pieces(texts, score, min_frequency, special_tokens, split_digits):
    """What merged_pieces should give, with every count made anew for every merge."""
    words = Counter(" ".join(texts).split())
    corpus = [([word[0], *("##" + c for c in word[1:])], n) for word, n in words.items()]
    learned = []
    while True:
        piece_counts, pair_counts = Counter(), Counter()
        for pieces, count in corpus:
            for piece in pieces:
                piece_counts[piece] += count
            for pair in pairwise(pieces):
                pair_counts[pair] += count

        ranks = []
        for (left, right), count in pair_counts.items():
            piece = left + right[2:]
            digits = split_digits and any(c.isdigit() for c in piece)
            ambiguous = left[:2] != "##" and piece[:2] == "##"
            if count < min_frequency or digits or ambiguous or piece in special_tokens:
                continue
            product = piece_counts[left] * piece_counts[right]
            value = count if score == "frequency" else count / product
            ranks.append((-value, -count, left, right))
        if not ranks:
            return learned

        *_, left, right = min(ranks)
        piece = left + right[2:]
        learned.append(piece)
        for pieces, _ in corpus:
            i = 0
            while i < len(pieces) - 1:
                if pieces[i : i + 2] == [left, right]:
                    pieces[i : i + 2] = [piece]
                i += 1


@pytest.mark.parametrize("score", ["frequency", "likelihood"])
@pytest.mark.parametrize("seed", range(60))
def test_equals_the_reference(score, seed):
    rng = random.Random(seed)
    characters = rng.choice(["a", "ab", "abc", "ab#", "#", "ab1", "abcdefgh"])
    words = ["".join(rng.choices(characters, k=rng.randint(1, 9))) for _ in range(40)]
    options = {
        "score": score,
        "min_frequency": rng.randint(1, 4),
        "special_tokens": rng.choice([["[PAD]"], ["ab", "##bb", "aaa"]]),
        "split_digits": rng.random() < 0.5,
    }
    texts = [" ".join(rng.choices(words, k=10)) for _ in range(15)]
    pieces = merged_pieces(texts, **options)
    assert pieces == reference_pieces(texts, **options)
    assert len(set(pieces)) == len(pieces)


@pytest.mark.parametrize(("score", "first"), [("frequency", "##ug"), ("likelihood", "##gs")])
@pytest.mark.parametrize("min_frequency", [1, 2])
def test_first_merge_of_the_known_example(score, first, min_frequency):
    assert merged_pieces(HUGS, score=score, min_frequency=min_frequency)[0] == first


def test_order_of_the_vocabulary():
    assert learn_vocabulary(HUGS, 20) == [
        *["[PAD]", "[UNK]", "[BOS]", "[EOS]"],
        *["b", "g", "h", "n", "p", "s", "u"],
        *["##b", "##g", "##h", "##n", "##p", "##s", "##u"],
        *["##ug", "##un"],
    ]


@pytest.mark.parametrize("score", ["frequency", "likelihood"])
def test_size_is_exact_when_the_text_allows(score):
    full = learn_vocabulary(HUGS, 1000, score=score, min_frequency=1)
    assert full[-1] in ("hugs", "pun", "bun", "pug", "hug")
    assert len(set(full)) == len(full) < 1000
    for size in range(18, len(full) + 1):
        assert learn_vocabulary(HUGS, size, score=score, min_frequency=1) == full[:size]


def test_equal_scores_are_settled_by_the_alphabet():
    assert merged_pieces(["cd ab ef"] * 3) == ["ab", "cd", "ef"]


def test_equal_likelihoods_are_settled_by_the_count():
    # `x ##y` scores 4 / (4 * 4) and `a ##b` 2 / (4 * 2), as `a` also stands alone.
    texts = ["xy xy xy xy ab ab a a"]
    assert merged_pieces(texts, score="likelihood") == ["xy", "ab"]


def test_repeated_pieces_merge_from_the_left():
    # a ##a ##a ##a ##a -> a ##aa ##aa -> a ##aaaa -> aaaaa
    assert merged_pieces(["aaaaa aaaaa"]) == ["##aa", "##aaaa", "aaaaa"]


def test_rare_pairs_are_not_merged():
    assert merged_pieces(["ab ab ab cd cd"], min_frequency=3) == ["ab"]
    assert merged_pieces(["ab ab ab cd cd"], min_frequency=4) == []


def test_case_and_punctuation_are_kept():
    assert merged_pieces(["Ab. ab."] * 2, min_frequency=2) == ["##b.", "Ab.", "ab."]


def test_a_first_piece_never_looks_like_a_continuation():
    pieces = merged_pieces(["## ##a #a a##b"] * 5, min_frequency=1)
    # Without the rule, `#` and `###` would be merged first, to `##`.
    assert pieces == ["#a", "####", "###a", "####b", "a##b"]


def test_no_learned_piece_is_a_special_token():
    texts = ["[EOS] x[EOS]"] * 5
    assert "[EOS]" in merged_pieces(texts)
    vocabulary = learn_vocabulary(texts, 1000)
    assert vocabulary.count("[EOS]") == 1
    assert "x[EOS]" in vocabulary


@pytest.mark.parametrize("split_digits", [False, True])
def test_split_digits(split_digits):
    texts = ["in 1984. 1984. a4 a4 \u0663\u0664 \u0663\u0664"] * 3
    vocabulary = learn_vocabulary(texts, 1000, split_digits=split_digits)
    with_digits = [p for p in vocabulary if any(c.isdecimal() for c in p)]
    alone = {form for d in "0123456789\u0663\u0664" for form in (d, "##" + d)}
    if split_digits:
        assert set(with_digits) == alone
        assert "in" in vocabulary
    else:
        assert {"1984.", "a4", "\u0663\u0664"} < set(with_digits)
        assert "0" not in vocabulary


def test_max_alphabet_keeps_the_most_frequent_characters():
    texts = ["ab ab ab ab", "xx xx", "az az az"]
    assert learn_vocabulary(texts, 1000, max_alphabet=3, special_tokens=[]) == (
        ["a", "b", "x", "##a", "##b", "##x", "ab", "xx"]
    )
    # Of equally frequent characters, the first in code point order is kept.
    assert learn_vocabulary(["b a c"], 2, max_alphabet=1, special_tokens=[]) == ["a", "##a"]


def test_words_are_split_at_ascii_white_space_only():
    for white in "\t\n\v\f\r ":
        assert count_words([f"a{white}b{white}{white}", "é" + white + "c"]) == dict.fromkeys(
            "abéc", 1
        )
    for kept in "\x1c\x1d\x1e\x1f\x85\xa0\u2005\u2028\u3000\u200b\ufeff":
        assert count_words([f"a{kept}b c"]) == {f"a{kept}b": 1, "c": 1}
    for code in range(sys.maxunicode + 1):
        assert (learner._WORD.fullmatch(chr(code)) is None) == (chr(code) in "\t\n\v\f\r ")


def test_nul_is_never_in_the_vocabulary():
    assert learn_vocabulary(["a\0b a"], 9, special_tokens=["[PAD]"]) == (
        ["[PAD]", "a", "b", "##a", "##b"]
    )


def test_long_words_are_cut():
    counts = count_words(["b" + "a" * 450 + " c"])
    assert counts == {"b" + "a" * 199: 1, "a" * 200: 1, "a" * 51: 1, "c": 1}


def test_count_words_drops_the_rarest():
    lines = ["c c c d d", "a a", "b e", "e e e"]
    assert count_words(lines, max_words=5) == {"c": 3, "d": 2, "a": 2, "b": 1, "e": 4}
    # The third line makes five words, of which three are kept.
    assert count_words(lines, max_words=4) == {"c": 3, "d": 2, "a": 2, "e": 3}
    assert count_words((str(i) for i in range(1000)), max_words=10).keys() == set(
        map(str, range(992, 1000))
    )


def test_max_words_bounds_learning():
    texts = ["ab ab ab", "cd cd", "ef ef"]
    assert merged_pieces(texts) == ["ab", "cd", "ef"]
    assert merged_pieces(texts, max_words=2) == ["ab"]


@pytest.mark.parametrize(
    ("texts", "size", "options", "message"),
    [
        (["ab"], 7, {}, r"vocabulary_size is 7, but 8 entries are needed: 4 .* and 2 "),
        (["a1"], 25, {"split_digits": True}, "but 26 entries are needed"),
        (["ab"], sys.maxunicode + 1, {}, "vocabulary_size is 1114112"),
        (["ab"], 100, {"score": "best"}, "score is 'best'; choose one of frequency, likelihood"),
        ([], 100, {}, "texts holds no word"),
        ([" \n", ""], 100, {}, "texts holds no word"),
        (["ab"], 100, {"special_tokens": ["[A]", "[B]", "[A]"]}, r"'\[A\]' more than once"),
        (["ab"], 100, {"special_tokens": ["a"]}, "'a', a piece of the alphabet"),
        (["ab"], 100, {"special_tokens": ["##b"]}, "'##b', a piece of the alphabet"),
        (["ab"], 100, {"min_frequency": 0}, "min_frequency is 0"),
        (["ab"], 100, {"max_alphabet": 0}, "max_alphabet is 0"),
        (["ab"], 100, {"max_words": 0}, "max_words is 0"),
    ],
)
def test_wrong_arguments(texts, size, options, message):
    with pytest.raises(ValueError, match=message):
        learn_vocabulary(texts, size, **options)


def test_one_string_is_refused():
    with pytest.raises(TypeError, match="texts is one string"):
        learn_vocabulary("a line", 100, progress=True)


def test_the_smallest_size_is_the_alphabet():
    assert learn_vocabulary(["ab ab"], 8) == [*SPECIAL_TOKENS, "a", "b", "##a", "##b"]


@pytest.mark.parametrize("score", ["frequency", "likelihood"])
def test_is_independent_of_the_hash_seed(score):
    # Many ties, so that any dependence on the order of a set would show. The option -S hides
    # installed packages: the module needs the standard library alone.
    program = (
        "import random, runpy, sys; rng = random.Random(0); "
        "texts = [' '.join(''.join(rng.choices('abcd', k=5)) for _ in range(400))]; "
        "learn = runpy.run_path(sys.argv[1])['learn_vocabulary']; "
        "print(learn(texts, 300, score=sys.argv[2]))"
    )
    command = [sys.executable, "-S", "-c", program, learner.__file__, score]
    outputs = {
        subprocess.run(
            command,
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert len(outputs.pop().split()) > 100


def test_progress_is_shown_on_standard_error(capfd):
    assert learn_vocabulary(iter(HUGS), 20, progress=True) == learn_vocabulary(HUGS, 20)
    output, error = capfd.readouterr()
    assert output == ""
    assert "Reading" in error and "1 lines" in error
    assert "Merging" in error and "2 pieces" in error
