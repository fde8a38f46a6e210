"""Tests of keras_transformer.training.data.noise."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_transformer.errors import InputError
from keras_transformer.training.data.noise import (
    corrupt_spans,
    infill_text,
    mask_tokens,
    permute_sentences,
    replace_tokens,
    sample_replacements,
    sample_unigrams,
)

PAD, BEGIN, END, MASK = SPECIAL = [0, 2, 3, 4]
V = 1000
SENTINELS = [V - 1 - i for i in range(100)]


def batch_of(rows, length=None):
    """[CLS] row [SEP], padded."""
    width = length or max((len(row) for row in rows), default=0) + 2
    framed = [[BEGIN, *row, END] + [PAD] * (width - 2 - len(row)) for row in rows]
    return np.array(framed, "int32").reshape(len(rows), width)


def masked(ids, seed=(1, 2), **options):
    options = {"mask_id": MASK, "vocabulary_size": V, "special_ids": [PAD, BEGIN, END], **options}
    return {name: x.numpy() for name, x in mask_tokens(ids, seed, **options).items()}


def ragged(rows):
    return tf.ragged.constant(rows, dtype=tf.int32, ragged_rank=1)


words = st.lists(st.lists(st.integers(5, 799), max_size=60), min_size=1, max_size=4)
seeds = st.tuples(st.integers(0, 2**62), st.integers(-9, 2**62))
quick = settings(max_examples=40, deadline=None)


# --- Masked tokens --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def million():
    """A million real tokens in rows of a hundred: before, after, and which were chosen."""
    ids = batch_of(np.random.default_rng(0).integers(5, V, (10_000, 100)).tolist())
    out = masked(ids)
    chosen = np.zeros(ids.shape, bool)
    rows = np.broadcast_to(np.arange(len(ids))[:, None], out["places"].shape)
    real = out["labels"] >= 0
    chosen[rows[real], out["places"][real]] = True
    return ids, out, chosen


def test_the_shares_over_a_million_tokens_are_those_of_bert(million):  # T20, C53, W18
    ids, out, chosen = million
    new, tokens = out["token_ids"], 1_000_000
    hidden = new == MASK
    other = (new != ids) & ~hidden
    shares = [x.sum() / tokens for x in (chosen, chosen & hidden, chosen & other)]
    kept = (chosen & (new == ids)).sum() / tokens
    print("chosen {:.2%}, masked {:.2%}, random {:.2%},".format(*shares), f"kept {kept:.2%}")
    assert shares[0] == 0.15
    assert shares[1:] == pytest.approx([0.12, 0.015], abs=0.0006)  # four standard deviations
    assert kept == pytest.approx(0.015, abs=0.0006)
    assert not (hidden | other)[~chosen].any()


def test_special_tokens_are_neither_chosen_nor_drawn(million):  # T20
    ids, out, chosen = million
    special = np.isin(ids, SPECIAL)
    assert special.any() and not chosen[special].any()
    new = out["token_ids"]
    drawn = new[(new != ids) & (new != MASK)]
    assert not np.isin(drawn, SPECIAL).any()
    assert {1, 5, V - 1} <= set(drawn.tolist())  # all others are
    # Unnamed, they would be chosen and drawn.
    out = masked(ids[:2000], special_ids=[])
    positions = set(out["places"][out["labels"] >= 0].tolist())
    assert {0, ids.shape[1] - 1} <= positions
    assert {PAD, BEGIN, END} <= set(out["token_ids"][:, 1:-1].ravel().tolist())


def test_every_place_is_as_likely_as_any_other(million):  # T20
    _, _, chosen = million
    assert chosen[:, 1:-1].mean(0) == pytest.approx(0.15, abs=0.018)  # five standard deviations
    assert chosen.sum(1).std() == 0


@quick
@given(words, seeds, st.floats(0.01, 0.99))
def test_labels_are_the_originals_and_the_number_is_exact(rows, seed, rate):  # T20, T21
    ids = batch_of(rows)
    out = masked(ids, seed, rate=rate)
    counts = [min(len(row), max(1, round(rate * len(row)))) for row in rows]
    assert out["places"].shape == out["labels"].shape == (len(rows), max(counts))
    assert {x.dtype for x in out.values()} == {np.dtype("int32")}
    for before, after, places, labels, n in zip(ids, *out.values(), counts, strict=True):
        assert np.all(np.diff(places[:n]) > 0)
        assert labels[:n].tolist() == before[places[:n]].tolist()
        assert not places[n:].any() and np.all(labels[n:] == -1)
        rest = np.delete(np.arange(len(before)), places[:n])
        assert np.array_equal(before[rest], after[rest])


@quick
@given(words, seeds, st.integers(1, 30), st.integers(0, 9))
def test_the_number_of_places_can_be_fixed(rows, seed, most, extra):
    ids = batch_of(rows, max(map(len, rows)) + 2 + extra)
    out = masked(ids, seed, rate=0.5, max_places=most)
    assert out["places"].shape == out["labels"].shape == (len(rows), most)
    for row, labels in zip(rows, out["labels"], strict=True):
        assert (labels >= 0).sum() == min(most, len(row), max(1, round(0.5 * len(row))))


def test_another_seed_hides_other_tokens():  # M07
    ids = batch_of([list(range(5, 105))] * 3)
    epochs = [masked(ids, (7, epoch)) for epoch in range(20)]
    again = masked(ids, (7, 0))
    assert all(np.array_equal(again[name], epochs[0][name]) for name in again)
    for one, other in itertools.combinations(epochs, 2):
        assert not np.array_equal(one["places"][0], other["places"][0])
    assert not np.array_equal(epochs[0]["places"][0], epochs[0]["places"][1])  # nor do rows agree
    seen = np.unique(np.concatenate([epoch["places"][0] for epoch in epochs]))
    assert len(seen) > 85  # static masks would be 15 places for ever


def test_masks_are_made_in_a_data_set_and_begin_at_any_batch():  # M07
    ids = batch_of(np.random.default_rng(0).integers(5, V, (40, 20)).tolist())

    def batches(first):
        data = tf.data.Dataset.from_tensor_slices(ids).batch(4).repeat(2).enumerate().skip(first)
        options = {"mask_id": MASK, "vocabulary_size": V, "special_ids": SPECIAL, "max_places": 3}
        return data.map(lambda i, x: mask_tokens(x, (5, i), **options))

    assert batches(0).element_spec["places"].shape.as_list() == [None, 3]
    assert batches(0).element_spec["token_ids"].shape.as_list() == [None, 22]
    whole, rest = (list(batches(first).as_numpy_iterator()) for first in (0, 6))
    for one, other in zip(whole[6:], rest, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
    for one, again in zip(whole[:10], whole[10:], strict=True):  # the same rows, an epoch later
        assert not np.array_equal(one["places"], again["places"])


def test_a_batch_without_rows_or_words_is_left_alone():
    for ids in (np.zeros((0, 5), "int32"), np.zeros((2, 0), "int32"), batch_of([[], []])):
        out = masked(ids)
        assert np.array_equal(out["token_ids"], ids)
        assert out["places"].shape == (len(ids), 0)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_rate_is_between_0_and_1(rate):  # T21
    for call in (
        lambda: masked(batch_of([[5]]), rate=rate),
        lambda: infill_text(ragged([[5]]), (0, 0), mask_id=4, rate=rate),
        lambda: corrupt_spans(ragged([[5]]), (0, 0), sentinel_ids=[9], rate=rate),
    ):
        with pytest.raises(InputError, match=f"between 0 and 1, got {rate}"):
            call()


@pytest.mark.parametrize("rate", [0.05, 0.4, 0.8])
def test_other_rates_choose_as_many(rate):  # T21
    labels = masked(batch_of([list(range(5, 505))] * 4), rate=rate)["labels"]
    assert (labels >= 0).sum(1).tolist() == [500 * rate] * 4


def test_a_vocabulary_of_special_tokens_is_refused():
    with pytest.raises(InputError, match="All of the 5 tokens are special"):
        masked(batch_of([[1]]), vocabulary_size=5, special_ids=[0, 1, 2, 3])


# --- Replaced tokens ------------------------------------------------------------------------------


@quick
@given(words, seeds, st.data())
def test_what_was_replaced_is_what_differs(rows, seed, data):  # M08
    ids = batch_of(rows)
    out = masked(ids, seed, rate=0.4)
    shape = out["places"].shape
    sampled = np.array(
        data.draw(st.lists(st.integers(5, 9), min_size=out["places"].size, max_size=shape[0] * 99))
    )[: out["places"].size].reshape(shape)
    new, labels = (
        x.numpy() for x in replace_tokens(ids, out["places"], sampled, special_ids=SPECIAL)
    )
    expected = ids.copy()
    for row, (places, originals) in enumerate(zip(out["places"], out["labels"], strict=True)):
        for i, place in enumerate(places):
            if originals[i] >= 0:
                expected[row, place] = sampled[row, i]
    assert np.array_equal(new, expected)
    real = ~np.isin(ids, SPECIAL)
    assert np.array_equal(labels, np.where(real, new != ids, -1))


def test_a_sample_that_is_the_original_gets_0():  # M08
    ids = batch_of([[7, 8, 9], [6]])
    places, sampled = [[1, 3], [1, 0]], [[7, 5], [5, 5]]
    new, labels = replace_tokens(ids, places, sampled, special_ids=SPECIAL)
    assert new.numpy().tolist() == [[BEGIN, 7, 8, 5, END], [BEGIN, 5, END, PAD, PAD]]
    assert labels.numpy().tolist() == [[-1, 0, 0, 1, -1], [-1, 1, -1, -1, -1]]


def test_places_that_fill_up_replace_nothing_even_in_front():
    ids = np.array([[7, 8, 9]], "int32")  # no special token stands at place 0
    new, labels = replace_tokens(ids, [[0, 2, 0]], [[5, 6, 4]], special_ids=SPECIAL)
    assert (new.numpy().tolist(), labels.numpy().tolist()) == ([[5, 8, 6]], [[1, 0, 1]])
    new, _ = replace_tokens(ids, [[1, 0, 0]], [[5, 6, 4]], special_ids=SPECIAL)
    assert new.numpy().tolist() == [[7, 5, 9]]


def test_replacements_come_as_often_as_the_generator_thinks():  # M08
    probability = np.array([0.1, 0.0, 0.2, 0.3, 0.4])
    with np.errstate(divide="ignore"):
        logits = np.log(np.tile(probability, (100, 200, 1))).astype("float32")
    drawn = sample_replacements(logits, (1, 2)).numpy()
    assert (drawn.shape, drawn.dtype) == ((100, 200), np.dtype("int32"))
    shares = np.bincount(drawn.ravel(), minlength=5) / drawn.size
    assert shares == pytest.approx(probability, abs=0.015)
    assert np.array_equal(drawn, sample_replacements(logits, (1, 2)))
    assert not np.array_equal(drawn, sample_replacements(logits, (1, 3)))
    allowed = sample_replacements(logits.astype("float16"), (1, 2), special_ids=[4, 0]).numpy()
    shares = np.bincount(allowed.ravel(), minlength=5) / drawn.size
    assert shares == pytest.approx([0, 0, 0.4, 0.6, 0], abs=0.015)


def test_unigrams_come_as_often_as_they_were_counted():  # M08
    counts = [0, 10, 0, 30, 60, 0, 0]
    drawn = sample_unigrams(counts, (100, 200), (1, 2)).numpy()
    assert (drawn.shape, drawn.dtype) == ((100, 200), np.dtype("int32"))
    assert np.bincount(drawn.ravel(), minlength=7) / 20_000 == pytest.approx(
        np.array(counts) / 100, abs=0.015
    )
    assert np.array_equal(drawn, sample_unigrams(counts, (100, 200), (1, 2)))
    for counts in ([], [0, 0], [1, -1, 2], [1, float("inf")]):
        with pytest.raises(InputError, match="must not be negative, and not all be 0"):
            sample_unigrams(counts, (2,), (0, 0))


def test_replacing_compiles():  # in a training step, under XLA, shapes must be known
    ids = batch_of([[7, 8, 9], [6, 5, 5]])

    @tf.function(jit_compile=True)
    def step(logits):
        places = tf.constant([[1, 3], [2, 0]])
        sampled = sample_replacements(logits, (1, 2), special_ids=SPECIAL)
        return replace_tokens(ids, places, sampled, special_ids=SPECIAL)

    new, labels = step(tf.one_hot([[5, 6], [7, 8]], 10) * 1e4)
    assert new.numpy()[:, 1:4].tolist() == [[5, 8, 6], [6, 7, 5]]
    assert labels.numpy()[:, 1:4].tolist() == [[1, 0, 1], [0, 1, 0]]


# --- Text infilling -------------------------------------------------------------------------------


def gaps(before, after):
    """How many tokens each mask stands for, if every token of the text is another one."""
    place = {token: i for i, token in enumerate(before)}
    found, at, masks = [], 0, 0
    for token in [*after, None]:
        if token == MASK:
            masks += 1
            continue
        here = len(before) if token is None else place[token]
        found.append((masks, here - at))
        at, masks = here + 1, 0
    return found


@quick
@given(st.lists(st.integers(0, 60), min_size=1, max_size=4), seeds, st.floats(0.01, 0.99))
def test_spans_become_masks_and_the_rest_stays_in_order(lengths, seed, rate):  # M06
    rows = [list(range(5, 5 + n)) for n in lengths]
    out = infill_text(ragged(rows), seed, mask_id=MASK, rate=rate)
    assert out.dtype == tf.int32
    for before, after in zip(rows, out.to_list(), strict=True):
        left = [token for token in after if token != MASK]
        assert left == sorted(set(left)) and set(left) <= set(before)
        n = len(before)
        assert n - len(left) == min(n, max(1, round(rate * n)))
        assert all(masks or not gap for masks, gap in gaps(before, after))


def test_spans_are_as_long_as_poisson_says():  # M06
    before = list(range(5, 505))
    out = infill_text(ragged([before] * 200), (1, 2), mask_id=MASK).to_list()
    masks, alone, starts = [], [], np.zeros(500)
    for after in out:
        masks.append(after.count(MASK))
        assert len(after) - masks[-1] == 350
        alone += [gap for count, gap in gaps(before, after) if count == 1]
        starts[[token - 5 for token in after if token != MASK]] += 1
    # 150 tokens in spans of 3 are 50 spans, and the last is cut a little.
    assert np.mean(masks) == pytest.approx(50.5, abs=1)
    poisson = np.exp(-3) * 3.0 ** np.arange(7) / [1, 1, 2, 6, 24, 120, 720]
    shares = np.bincount(alone, minlength=7)[:7] / len(alone)
    assert shares == pytest.approx(poisson, abs=0.02)
    assert shares[0] > 0.03  # a mask where nothing was taken out
    assert starts.reshape(10, 50).mean(1) / 200 == pytest.approx(0.7, abs=0.03)  # everywhere alike


def test_another_seed_takes_out_other_spans():  # M06
    texts = ragged([list(range(5, 65))])
    one = infill_text(texts, (1, 2), mask_id=MASK).to_list()
    assert one == infill_text(texts, (1, 2), mask_id=MASK).to_list()
    assert one != infill_text(texts, (1, 3), mask_id=MASK).to_list()
    longer = infill_text(texts, (1, 2), mask_id=MASK, mean_length=9).to_list()
    assert longer[0].count(MASK) < one[0].count(MASK)


@quick
@given(st.lists(st.lists(st.integers(1, 20), max_size=30), min_size=1, max_size=3), seeds)
def test_sentences_change_places_and_nothing_else(rows, seed):  # M06
    def sentences(row):
        parts = [[]]
        for token in row:
            parts[-1].append(token)
            if token in (1, 2):
                parts.append([])
        return parts

    out = permute_sentences(ragged(rows), seed, stop_ids=[1, 2]).to_list()
    for before, after in zip(rows, out, strict=True):
        parts, rest = sentences(before), after
        assert len(after) == len(before)

        def made_of(rest, parts):
            return not any(parts) or any(
                rest[: len(part)] == part and made_of(rest[len(part) :], parts[:i] + parts[i + 1 :])
                for i, part in enumerate(parts)
                if part and part not in parts[:i]
            )

        if len(parts) < 7:
            assert made_of(rest, parts)
        assert sorted(before) == sorted(after)


def test_every_order_of_sentences_occurs():  # M06
    texts = ragged([[5, 1, 6, 6, 1, 7, 8, 1]] * 200)
    orders = [tuple(row) for row in permute_sentences(texts, (1, 2), stop_ids=[1]).to_list()]
    assert len(set(orders)) == 6
    assert max(map(orders.count, set(orders))) < 60


# --- Span corruption ------------------------------------------------------------------------------


def joined(inputs, targets):
    """Put spans in the place of their sentinels."""
    spans, name = {}, None
    for token in targets:
        if token in SENTINELS:
            name = token
            spans[name] = []
        else:
            spans[name].append(token)
    text = [part for x in inputs for part in (spans.pop(x) if x in spans else [x])]
    assert not spans
    return text


@quick
@given(words, seeds, st.floats(0.01, 0.99), st.floats(1, 9), st.integers(1, 100))
def test_inputs_and_targets_together_are_the_text(rows, seed, rate, mean, most):  # M05
    inputs, targets = corrupt_spans(
        ragged(rows), seed, sentinel_ids=SENTINELS[:most], rate=rate, mean_length=mean
    )
    for row, left, cut in zip(rows, inputs.to_list(), targets.to_list(), strict=True):
        assert joined(left, cut) == row
        used = [token for token in left if token in SENTINELS]
        assert used == [token for token in cut if token in SENTINELS] == SENTINELS[: len(used)]
        n = len(row)
        removed = min(n - 1, max(1, round(rate * n))) if n > 1 else 0
        assert len(cut) - len(used) == removed
        spans = min(max(1, round(removed / mean)), removed, n - removed + 1, most)
        assert len(used) == (spans if removed else 0)
        between = [b - a for a, b in itertools.pairwise(i for i, x in enumerate(left) if x in used)]
        assert all(gap > 1 for gap in between)
        assert all(a not in used or b not in used for a, b in itertools.pairwise([*cut, *used[:1]]))


def test_joining_the_wrong_spans_gives_another_text():  # negative control of `joined`
    row = list(range(5, 65))
    inputs, targets = (
        x.to_list()[0] for x in corrupt_spans(ragged([row]), (1, 2), sentinel_ids=SENTINELS)
    )
    assert joined(inputs, targets) == row
    swap = {SENTINELS[0]: SENTINELS[1], SENTINELS[1]: SENTINELS[0]}
    assert joined([swap.get(token, token) for token in inputs], targets) != row


def test_spans_lie_anywhere():
    row = list(range(5, 25))  # 20 tokens, of which one span of 3 is cut out
    texts = ragged([row] * 2000)
    inputs, targets = corrupt_spans(texts, (1, 2), sentinel_ids=SENTINELS)
    first = np.array(targets.to_list())[:, 1] - 5
    shares = np.bincount(first, minlength=18) / 2000
    assert len(shares) == 18
    assert shares == pytest.approx(1 / 18, abs=0.025)
    other, _ = corrupt_spans(texts, (1, 3), sentinel_ids=range(V - 1, 0, -1))
    again, _ = corrupt_spans(texts, (1, 2), sentinel_ids=SENTINELS)
    assert inputs.to_list() == again.to_list() != other.to_list()


def test_spans_are_made_in_a_data_set():
    data = tf.data.Dataset.from_tensors(ragged([[*range(5, 25)], [], [7]]))
    for name, made in (
        ("spans", data.map(lambda x: corrupt_spans(x, (1, 2), sentinel_ids=SENTINELS))),
        ("infilling", data.map(lambda x: (infill_text(x, (1, 2), mask_id=4), x))),
        ("order", data.map(lambda x: (permute_sentences(x, (1, 2), stop_ids=[9]), x))),
    ):
        ((one, other),) = made
        assert one.shape.as_list() == other.shape.as_list() == [3, None], name


def test_texts_without_a_token_stay_so():
    nothing = ragged([[], []])
    assert infill_text(nothing, (1, 2), mask_id=4).to_list() == [[], []]
    assert permute_sentences(nothing, (1, 2), stop_ids=[1]).to_list() == [[], []]
    inputs, targets = corrupt_spans(nothing, (1, 2), sentinel_ids=[9])
    assert inputs.to_list() == targets.to_list() == [[], []]


def test_spans_need_a_length_and_sentinels():
    texts = ragged([[5]])
    for mean in (0.5, float("inf"), float("nan")):
        for call in (
            lambda mean=mean: infill_text(texts, (0, 0), mask_id=4, mean_length=mean),
            lambda mean=mean: corrupt_spans(texts, (0, 0), sentinel_ids=[9], mean_length=mean),
        ):
            with pytest.raises(InputError, match=f"at least 1, got {mean}"):
                call()
    with pytest.raises(InputError, match="at least one id as sentinel_ids"):
        corrupt_spans(texts, (0, 0), sentinel_ids=[])
