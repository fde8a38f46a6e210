"""Tests of keras_transformer.decoding.rules: what may not follow, and what must."""

import itertools

import numpy as np
import oracles
import pytest
from fixtures_search import (
    BEGIN,
    END,
    ENDLESS,
    NEVER,
    PADDING,
    WALK,
    A,
    B,
    C,
    best,
    chain,
    forest,
    padded,
    search,
    table,
)
from oracles import assert_close

LIMIT = 8
EVERY_WAY = pytest.mark.parametrize(
    "options",
    [
        {},
        {"beam_size": 3, "num_hypotheses": 3},
        # So hot that the logits are of no matter, only what is forbidden is.
        {"temperature": 1e6, "num_hypotheses": 3, "seed": 1},
    ],
    ids=["greedy", "beam", "sampling"],
)


def searched(trees, rows, **more):
    """Search trees, and return the ids of all hypotheses without their padding."""
    arguments = {"cache": trees.cache(list(range(rows))), "make_room": trees.make_room, **more}
    ids, scores = search(trees.step, **arguments)
    return [[[i for i in row if i != PADDING] for row in rows] for rows in ids], scores


# Against oracles that apply the rules one token after another

PLAIN: list = []  # what is found without any rule
RULES = {
    "min length": {"min_length": 4},
    "penalty": {"repetition_penalty": 1.7},
    "reward": {"repetition_penalty": 0.6},
    "no token twice": {"no_repeat_ngram": 1},
    "no pair twice": {"no_repeat_ngram": 2},
    "no triple twice": {"no_repeat_ngram": 3},
    "nothing left": {"no_repeat_ngram": 1, "min_length": 7},
    "prefixes": {"prefixed": True},
    "all": {"min_length": 4, "repetition_penalty": 1.4, "no_repeat_ngram": 2, "prefixed": True},
}


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_search_under_rules_agrees_with_the_oracle(rules, width):
    rows, rules = 40, dict(rules)
    prefixed = rules.pop("prefixed", False)
    # By the last token alone, so that there is much that would be repeated.
    trees = forest(width, rows, whole_prefix=False, tokens=4, fewer=False)
    rng = np.random.default_rng(width)
    limits = rng.integers(1, LIMIT + 1, rows)
    prefix = rng.integers(A, C + 1, (rows, 5)) * (np.arange(5) < rng.integers(0, 6, (rows, 1)))
    more = {"prefix": prefix.astype("int32")} if prefixed else {}
    if width > 1:
        more = {**more, "beam_size": width, "num_hypotheses": width}
    ids, scores = searched(trees, rows, limits=limits, max_length=LIMIT, **rules, **more)
    names = {"repetition_penalty": "penalty", "no_repeat_ngram": "ngram"}
    own = {names.get(name, name): value for name, value in rules.items()}
    for row in range(rows):
        if prefixed:
            own["forced"] = [int(token) for token in prefix[row] if token]
        arguments = (trees.next_logits(row), limits[row], BEGIN, END)
        if width == 1:
            expected = [oracles.greedy(*arguments, NEVER, **own)]
        else:
            expected = oracles.beam_search(*arguments, width, 0.6, NEVER, **own)[:width]
        assert ids[row][: len(expected)] == [tokens for tokens, _ in expected]
        assert_close(scores[row][: len(expected)], [score for _, score in expected])
        assert np.all(np.isneginf(scores[row][len(expected) :]))
    if width == 1:
        if not PLAIN:  # the same trees each time
            PLAIN.append(searched(trees, rows, limits=limits, max_length=LIMIT)[0])
        assert ids != PLAIN[0]  # the rules matter


# Padding and the begin token


@EVERY_WAY
@pytest.mark.parametrize("never", [PADDING, BEGIN])
def test_padding_and_begin_are_never_produced(options, never):
    logits = np.zeros((6, 6), "float32")
    logits[:, never], logits[:, C] = 1000.0, 1.0
    ids, scores = search(chain(logits), [6] * 5, seeds=np.arange(5, dtype="int32"), **options)
    for row, row_scores in zip(ids, scores, strict=True):
        for hypothesis, score in zip(row, row_scores, strict=True):
            produced = hypothesis[: hypothesis.index(END) + 1] if END in hypothesis else hypothesis
            assert not set(produced) & {PADDING, BEGIN}
            if options.get("beam_size", 1) == 1:  # their share of probability is not given away
                assert score == pytest.approx(-1000.0 * len(produced), abs=len(produced) + 1)


def test_share_of_padding_is_not_given_away():
    logits = np.zeros((6, 6), "float32")
    logits[:, PADDING], logits[:, C] = 1000.0, 1.0
    ids, scores = best(chain(logits), [3])
    assert ids == [[C, C, C]]
    assert_close(scores, [-3 * 999.0], 1e-2)


# The shortest targets


@EVERY_WAY
def test_least_length_counts_the_end_token(options):
    eager = table(BEGIN={END: 0.99}, A={END: 0.99}, B={END: 0.99}, C={END: 0.99})
    seeds = np.arange(3, dtype="int32")
    for least in (0, 1, 4):
        arguments = {**options, "seeds": seeds, "min_length": least}
        ids, _ = search(chain(eager), [20] * 3, **arguments)
        lengths = [[np.count_nonzero(hypothesis) for hypothesis in row] for row in ids]
        assert np.min(lengths) >= least
        if "temperature" not in options:
            assert [row[0] for row in lengths] == [max(least, 1)] * 3
            assert all(row[0][max(least, 1) - 1] == END for row in ids)


@EVERY_WAY
def test_limit_holds_against_a_least_length(options):
    ids, _ = search(chain(WALK), [2], 6, min_length=5, **options)
    assert all(np.count_nonzero(hypothesis) == 2 for hypothesis in ids[0])
    assert END not in np.array(ids)


# Repetition


def test_repeated_token_has_its_log_probability_multiplied():
    logits = table(BEGIN={A: 0.9}, A={A: 0.5, B: 0.4}, B={A: 0.5, C: 0.3, B: 0.1}, C={END: 0.9})
    assert best(chain(logits), [3])[0] == [[A, A, A]]
    ids, scores = best(chain(logits), [4], repetition_penalty=2.0)
    # 0.5^2 < 0.4 for A after A; and for A after B, 0.5^2 < 0.3.
    assert ids == [[A, B, C, END]]
    ids, scores = best(chain(logits), [3], repetition_penalty=1.2)
    assert ids == [[A, A, A]]  # 0.5^1.2 > 0.4
    share = np.log(0.5 / 0.9004)
    assert_close(scores, [np.log(0.9 / 0.9005) + 2 * 1.2 * share])


def test_token_seen_often_is_penalised_once():
    logits = table(BEGIN={A: 0.9}, A={A: 0.6, B: 0.3})
    _, scores = best(chain(logits), [6], repetition_penalty=1.5)
    assert_close(scores, [np.log(0.9 / 0.9005) + 5 * 1.5 * np.log(0.6 / 0.9004)])


def test_penalty_below_one_favours_what_was_seen():
    logits = table(BEGIN={A: 0.9}, A={A: 0.35, B: 0.5}, B={END: 0.9})
    assert best(chain(logits), [3])[0] == [[A, B, END]]
    assert best(chain(logits), [3], repetition_penalty=0.5)[0] == [[A, A, A]]  # 0.41^0.5 > 0.59


def test_what_one_hypothesis_has_seen_is_no_matter_to_another():
    logits = table(BEGIN={A: 0.5, B: 0.4}, A={C: 0.9}, B={C: 0.9}, C={A: 0.5, B: 0.4, C: 0.05})
    ids, _ = search(chain(logits), [3], no_repeat_ngram=1, beam_size=2, num_hypotheses=2)
    assert ids == [[[A, C, B], [B, C, A]]] or ids == [[[B, C, A], [A, C, B]]]


def repeats(tokens, n):
    ngrams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return len(set(ngrams)) < len(ngrams)


@EVERY_WAY
def test_no_ngram_occurs_twice(options):
    trees = forest(1, 10, whole_prefix=False, tokens=4, fewer=False)
    more = {"limits": [20] * 10, "seeds": np.arange(10, dtype="int32"), **options}
    free, _ = searched(trees, 10, **more)
    for n in (1, 2, 3):
        ids, scores = searched(trees, 10, no_repeat_ngram=n, **more)
        assert not any(repeats(tokens, n) for row in ids for tokens in row)
        assert any(repeats(tokens, n) for row in free for tokens in row)  # the check can fail
        assert np.all(scores > -1e4) or options.get("beam_size")
        if n > 1:  # shorter ones may
            assert any(repeats(tokens, n - 1) for row in ids for tokens in row)


def test_search_ends_when_every_other_token_was_seen():
    trees = forest(7, 20, tokens=4, fewer=False)
    ids, _ = searched(trees, 20, limits=[12] * 20, no_repeat_ngram=1)
    assert all(row[0][-1] == END for row in ids)
    assert max(len(row[0]) for row in ids) == 5  # each token once, and the end


@EVERY_WAY
def test_target_ends_where_nothing_else_may_follow(options):  # rather than with padding or begin
    trees = forest(7, 20, tokens=3, fewer=False)
    rules = {"no_repeat_ngram": 1, "min_length": 9}
    ids, scores = searched(trees, 20, limits=[12] * 20, **rules, **options)
    assert all(sorted(tokens) == [END, A, B, C] for row in ids for tokens in row)
    assert all(tokens[-1] == END for row in ids for tokens in row)
    assert np.all(scores > -100)


# Forced prefixes

PREFIXES = np.array([[A, C, A], [B, 0, 0], [0, 0, 0], [C, C, 0]], "int32")


@EVERY_WAY
def test_targets_begin_with_the_prefix_of_their_row(options):
    trees = forest(8, 4, tokens=5, fewer=False)
    more = {"limits": [9] * 4, "seeds": np.arange(4, dtype="int32"), **options}
    ids, _ = searched(trees, 4, prefix=PREFIXES, **more)
    for row, prefix in zip(ids, PREFIXES.tolist(), strict=True):
        forced = [token for token in prefix if token]
        assert all(tokens[: len(forced)] == forced for tokens in row)
    free, _ = searched(trees, 4, **more)
    assert ids[2] == free[2]  # no prefix changes nothing
    assert any(tokens[:3] != PREFIXES[0].tolist() for tokens in free[0])


def test_prefix_of_no_token_changes_nothing():
    trees = forest(8, 4)
    for options in ({}, {"beam_size": 3, "num_hypotheses": 3}):
        free, scores = searched(trees, 4, limits=[6] * 4, **options)
        ids, same = searched(trees, 4, limits=[6] * 4, prefix=np.zeros((4, 0), "int32"), **options)
        assert ids == free
        assert np.array_equal(same, scores)


@EVERY_WAY
def test_prefix_gets_its_true_score(options):
    trees, prefix = forest(9, 1, fewer=False), [A, B, A]
    _, scores = searched(trees, 1, limits=[3], prefix=np.array([prefix], "int32"), **options)
    steps = [[BEGIN, *prefix[:t]] for t in range(3)]
    shares = [oracles.log_softmax(trees.next_logits(0)(step)) for step in steps]
    expected = sum(share[token] for share, token in zip(shares, prefix, strict=True))
    if "beam_size" in options:
        expected /= (8 / 6) ** 0.6
    assert scores[0, 0] == pytest.approx(expected, abs=1e-5)


def test_beam_holds_one_hypothesis_while_the_prefix_lasts():
    trees = forest(10, 1, fewer=False)
    more = {"limits": [3], "beam_size": 4, "num_hypotheses": 4}
    ids, scores = searched(trees, 1, prefix=np.array([[A, B, A]], "int32"), **more)
    assert ids == [[[A, B, A], [], [], []]]
    assert np.isneginf(scores[0]).tolist() == [False, True, True, True]
    ids, scores = searched(trees, 1, prefix=np.array([[A, B]], "int32"), **more)
    assert all(tokens[:2] == [A, B] for tokens in ids[0])
    assert len({tokens[2] for tokens in ids[0]}) == 4  # and then as many as it can


@EVERY_WAY
@pytest.mark.parametrize(
    ("prefix", "rules"),
    [
        ([A, A, A], {"no_repeat_ngram": 1}),
        ([A, B, A, B], {"no_repeat_ngram": 2}),
        ([A, BEGIN, B], {}),
        ([A, A, A], {"repetition_penalty": 9.0}),
    ],
)
def test_prefix_may_hold_what_other_rules_forbid(options, prefix, rules):
    trees = forest(12, 2, fewer=False)
    rows = np.array([prefix, [C] + [0] * (len(prefix) - 1)], "int32")
    ids, scores = searched(trees, 2, limits=[6, 6], prefix=rows, **rules, **options)
    assert ids[0][0][: len(prefix)] == prefix
    assert ids[1][0][0] == C
    assert np.all(scores[:, 0] > -1e4)


@EVERY_WAY
def test_prefix_may_end_a_target_before_its_least_length(options):
    prefix = np.array([[A, END, 0], [A, B, END], [A, 0, 0]], "int32")
    ids, scores = search(chain(ENDLESS), [9] * 3, prefix=prefix, min_length=6, **options)
    assert [row[0] for row in ids[:2]] == [padded([A, END], 9), padded([A, B, END], 9)]
    assert len([token for token in ids[2][0] if token]) >= 6
    assert np.all(scores[:, 0] > -1e4)


@EVERY_WAY
def test_prefix_may_be_as_long_as_the_limit_and_longer(options):
    prefix = np.array([[A, B, C, A], [A, B, C, B], [B, B, C, A]], "int32")
    ids, scores = search(chain(WALK), [4, 2, 6], prefix=prefix, **options)
    assert ids[0][0] == [A, B, C, A, PADDING, PADDING]
    assert ids[1][0] == padded([A, B], 6)  # cut off
    assert ids[2][0][:4] == [B, B, C, A]
    assert np.all(scores[:, 0] > -1e4)


def test_rules_keep_rows_apart():  # T28
    trees, options = forest(13, 12, fewer=False), {"no_repeat_ngram": 2, "repetition_penalty": 1.3}
    prefix = np.random.default_rng(1).integers(A, C + 1, (12, 3)).astype("int32")
    prefix *= np.arange(3) < np.arange(12)[:, None] % 4
    for way in ({}, {"beam_size": 3, "num_hypotheses": 3}):
        more = {"max_length": 9, "min_length": 3, **options, **way}
        limits = np.arange(12) % 8 + 2
        ids, scores = searched(trees, 12, limits=limits, prefix=prefix.astype("int32"), **more)
        for row, limit in itertools.islice(enumerate(limits), 1, 12, 5):
            more["cache"] = trees.cache([row])
            own = {"limits": [limit], "prefix": prefix[[row]].astype("int32")}
            alone, score = searched(trees, 1, **own, **more)
            assert alone[0] == ids[row]
            assert_close(np.nan_to_num(score[0]), np.nan_to_num(scores[row]), 1e-5)
