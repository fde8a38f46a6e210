"""Tests of keras_transformer.training.data.parallel_text."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from fixtures_data import (
    TOKENIZER,
    expected_rows,
    ids,
    random_pairs,
    rows,
    same_batches,
    write,
    write_pairs,
)

from keras_transformer.errors import InputError
from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.models.config import BEGIN_ID, END_ID, PADDING_ID, UNKNOWN_ID
from keras_transformer.text import WordPieceTokenizer
from keras_transformer.training.data.batching import Batching, split_batches
from keras_transformer.training.data.parallel_text import (
    Pairs,
    make_batches,
    make_training_batches,
    measure,
)

__all__ = ["write"]


def test_the_decoder_sees_the_target_shifted_right(write):  # T03
    files = write([("ab c", "d ef")])
    ((inputs, labels),) = make_batches(files, TOKENIZER, Batching(64, 16)).as_numpy_iterator()
    target = ids("d ef")
    assert inputs["source_ids"].tolist() == [[*ids("ab c"), END_ID]]
    assert inputs["target_ids"].tolist() == [[BEGIN_ID, *target]]
    assert labels.tolist() == [[*target, END_ID]]
    assert {x.dtype for x in (labels, *inputs.values())} == {np.dtype("int32")}


@pytest.fixture(scope="module", params=[(9, 9), (96, 24), (1000, 41)], ids=str)
def corpus(request, tmp_path_factory):
    """Random pairs, how they are batched, what is counted and what is delivered."""
    pairs, batching = random_pairs(request.param[0], 600), Batching(*request.param)
    files = write_pairs(tmp_path_factory.mktemp("corpus"), pairs)
    batches = list(make_batches(files, TOKENIZER, batching).as_numpy_iterator())
    return pairs, batching, measure(files, TOKENIZER, batching), batches


def test_measure_is_what_batches_deliver(corpus):
    pairs, batching, size, batches = corpus
    assert size.batches == len(batches)
    assert size.pairs == sum(len(labels) for _, labels in batches)
    assert size.target_tokens == sum(np.count_nonzero(labels) for _, labels in batches)
    empty = sum(not (source.strip() and target.strip()) for source, target in pairs)
    assert size.empty == empty > 0
    assert size.too_long == len(pairs) - size.pairs - empty
    assert size.too_long > 0 or batching.max_length == 41


def test_every_usable_pair_is_delivered_once(corpus):
    pairs, batching, _, batches = corpus
    assert sorted(rows(batches)) == sorted(expected_rows(pairs, batching.max_length))


def test_a_batch_holds_its_tokens_and_no_more(corpus):  # L47
    _, batching, _, batches = corpus
    full = 0
    for inputs, labels in batches:
        assert labels.shape == inputs["target_ids"].shape
        assert max(inputs["source_ids"].shape[1], labels.shape[1]) <= batching.max_length
        largest = max(inputs["source_ids"].size, labels.size)
        assert largest <= batching.batch_tokens
        full += largest > batching.batch_tokens / 2
    assert full >= len(batches) / 2
    assert len({labels.shape[1] for _, labels in batches}) > 3


def test_short_pairs_are_not_padded_to_long_ones(write):  # L47
    files = write([("a", "b"), ("abcdefgh" * 4, "a")] * 50)
    shapes = [
        inputs["source_ids"].shape
        for inputs, _ in make_batches(files, TOKENIZER, Batching(256, 40)).as_numpy_iterator()
    ]
    assert {width for _, width in shapes} == {2, 33}


def test_what_a_pair_gives_does_not_depend_on_its_bucket(write):  # L47, T28
    pairs = [("ab", "ba"), ("abc", "cba"), ("abcdefgh" * 3, "a"), ("a b c d", "d c b a")]
    config = TransformerConfig(len(TOKENIZER), 1, 2, 8, 16, max_length=40)
    model = Transformer(config)

    def logits(longest, tokens):
        batches = make_batches(write(pairs), TOKENIZER, Batching(tokens, longest))
        found = {}
        for inputs, labels in batches:
            outputs = model(inputs, training=False).numpy()
            for output, row in zip(outputs, labels.numpy(), strict=True):
                length = np.count_nonzero(row)
                found[tuple(row[:length].tolist())] = output[:length]
        return found

    alone, together = logits(40, 40), logits(40, 400)
    assert len(alone) == len(together) == len(pairs)
    for labels, values in alone.items():
        np.testing.assert_allclose(values, together[labels], rtol=0, atol=1e-5)


def test_a_batch_too_small_for_a_sentence_is_refused():
    with pytest.raises(InputError, match="got 10 and 20"):
        Batching(10, 20)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("abc" * 9, "a"), ("", "a")], "1 have more than 8 tokens, 1 have an empty column"),
        ([("", "a"), ("a", " ")], "0 have more than 8 tokens, 2 have an empty column"),
    ],
)
def test_a_corpus_without_usable_pairs_is_refused(write, pairs, message):
    with pytest.raises(InputError, match=message):
        measure(write(pairs), TOKENIZER, Batching(64, 8))


# --- Batches for training -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """Makes lists of batches for training from one corpus; and that corpus."""
    pairs, batching = random_pairs(4), Batching(64, 16)
    plain = write_pairs(tmp_path_factory.mktemp("training"), pairs)
    size = measure(plain, TOKENIZER, batching)

    def batches(count, seed=3, first_batch=0, files=plain, **options):
        made = make_training_batches(files, TOKENIZER, batching, seed, size, first_batch, **options)
        return list(itertools.islice(made.as_numpy_iterator(), count))

    batches.pairs, batches.epoch = pairs, size.batches
    batches.plain = batches(3 * size.batches)  # three epochs
    return batches


def test_the_order_is_decided_by_the_seed_alone(training):
    first = training.plain[:30]
    tf.random.set_seed(17)
    assert same_batches(first, training(30))
    assert not same_batches(first, training(30, seed=4))


def test_every_epoch_has_every_pair_in_another_order(training):
    batches = training.plain
    epochs = [rows(batches[i * training.epoch :][: training.epoch]) for i in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(expected_rows(training.pairs, 16))
    for one, other in itertools.combinations(epochs, 2):
        assert one != other


def test_starting_later_is_the_same_as_skipping(training):
    epoch = training.epoch
    whole = training.plain[: 2 * epoch + 6]
    for first in (epoch - 1, epoch, 2 * epoch + 3):
        assert same_batches(whole[first:], training(len(whole) - first, first_batch=first))


def test_packed_text_gives_the_same_batches(training, tmp_path):
    packed = write_pairs(tmp_path, training.pairs, ".gz")
    assert packed.check() == len(training.pairs)
    assert same_batches(training.plain[:20], training(20, files=packed))


# --- Splitting and augmentation -------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_parts_of_a_batch_together_are_the_batch(training, parts):
    batches = training.plain[:20]
    assert len({len(labels) for _, labels in batches}) > 1
    spec = tf.TensorSpec([None, None], tf.int32)
    whole = tf.data.Dataset.from_generator(
        lambda: iter(batches), output_signature=({"source_ids": spec, "target_ids": spec}, spec)
    )
    cut = list(split_batches(whole, parts).as_numpy_iterator())
    assert len(cut) == parts * len(batches)
    for i, (inputs, labels) in enumerate(batches):
        mine = cut[i * parts :][:parts]
        bounds = [k * len(labels) // parts for k in range(parts + 1)]
        assert [len(y) for _, y in mine] == np.diff(bounds).tolist()
        joined = {name: np.concatenate([x[name] for x, _ in mine]) for name in inputs}
        assert same_batches([(joined, np.concatenate([y for _, y in mine]))], [(inputs, labels)])


def test_tokens_are_dropped_from_the_source_alone(training):  # T18
    plain, dropped = training.plain[:60], training(60, token_dropout=0.3)
    changed = real = 0
    for (inputs, labels), (new, new_labels) in zip(plain, dropped, strict=True):
        assert np.array_equal(labels, new_labels)
        assert np.array_equal(inputs["target_ids"], new["target_ids"])
        one, other = inputs["source_ids"], new["source_ids"]
        different = one != other
        assert set(other[different].tolist()) <= {UNKNOWN_ID}
        changed += different.sum()
        real += (one > END_ID).sum()
    assert changed / real == pytest.approx(0.3, abs=0.03)


def test_dropped_tokens_are_decided_by_seed_and_batch(training):  # T18
    epoch = training.epoch
    whole = training(2 * epoch, token_dropout=0.5)
    assert same_batches(whole[:30], training(30, token_dropout=0.5))
    assert same_batches(whole[11:30], training(19, first_batch=11, token_dropout=0.5))
    # The same text twice is not changed twice alike.
    sources = [{row[0] for row in rows(whole[i * epoch :][:epoch])} for i in range(2)]
    assert sources[0] != sources[1]


def test_pieces_are_cut_anew_in_every_epoch(training, tmp_path):  # T18
    couples = [a + b for a, b in itertools.product("abcdefgh", repeat=2)]
    more = [*couples, *(f"##{couple}" for couple in couples)]
    tokenizer, batching = WordPieceTokenizer([*TOKENIZER.vocabulary, *more]), Batching(64, 16)
    files = write_pairs(tmp_path, training.pairs)
    size = measure(files, tokenizer, batching)

    def batches(count, first=0, rate=0.5):
        made = make_training_batches(files, tokenizer, batching, 3, size, first, piece_dropout=rate)
        return list(itertools.islice(made.as_numpy_iterator(), count))

    def texts(batches):
        sides = [ids for inputs, labels in batches for ids in (inputs["source_ids"], labels)]
        return [tokenizer.detokenize(ids).numpy().tolist() for ids in sides]

    plain, cut = batches(2 * size.batches, rate=0.0), batches(2 * size.batches)
    assert texts(cut) == texts(plain)  # the same pairs share batches
    assert not same_batches(cut, plain)
    assert sorted(rows(cut[: size.batches])) != sorted(rows(cut[size.batches :]))
    assert same_batches(batches(9, first=size.batches + 3), cut[size.batches + 3 :][:9])
    for inputs, labels in cut:
        shifted = np.where(labels == END_ID, PADDING_ID, labels)[:, :-1]
        assert np.array_equal(inputs["target_ids"][:, 1:], shifted)
        assert max(inputs["source_ids"].shape[1], labels.shape[1]) <= 16  # what the model takes


def test_pieces_depend_on_epoch_group_and_side():  # T18
    couples = [a + b for a, b in itertools.product("abcdefgh", repeat=2)]
    more = [*couples, *(f"##{couple}" for couple in couples)]
    pairs = Pairs(WordPieceTokenizer([*TOKENIZER.vocabulary, *more]))
    columns = dict.fromkeys(pairs.columns, tf.constant(["abcdefgh" * 2]))
    inputs, labels = pairs.featurize(columns)
    vary = pairs.piece_dropout(0.5, 3, 40)

    def cut(*seed):
        varied, labels_cut = vary(columns, inputs, labels, tf.constant(seed, tf.int64))
        return tuple(varied["source_ids"].values.numpy()), tuple(labels_cut.values.numpy())

    assert cut(1, 1) == cut(1, 1)
    assert len({cut(1, group) for group in range(9)}) > 3
    assert len({cut(epoch, 1) for epoch in range(9)}) > 3
    assert any(source != target for source, target in (cut(1, group) for group in range(9)))


def test_evaluation_changes_no_token(training, tmp_path):  # T18
    files = write_pairs(tmp_path, training.pairs)
    batches = make_batches(files, TOKENIZER, Batching(64, 16)).as_numpy_iterator()
    assert not any((inputs["source_ids"] == UNKNOWN_ID).any() for inputs, _ in batches)
