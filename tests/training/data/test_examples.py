"""Tests of keras_transformer.training.data.examples.

Also: training.data.batching, training.data.featurizing.
"""

import dataclasses
import functools
import itertools
import random

import numpy as np
import pytest
import tensorflow as tf
from fixtures_data import TOKENIZER, ids

from keras_transformer.errors import InputError
from keras_transformer.training.data.batching import EXAMPLES_AT_ONCE, Batching
from keras_transformer.training.data.corpora import ParallelFiles
from keras_transformer.training.data.corpus_size import count_examples
from keras_transformer.training.data.examples import (
    make_example_batches,
    make_example_training_batches,
)
from keras_transformer.training.data.noise import mask_tokens
from keras_transformer.training.data.records import ImageFolder, Records

BEGIN, END, PAD = 2, 3, 99  # padding is not the usual one, nor any token


def put(folder, rows):
    path = folder / "a.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    return Records(path, ("text", "label"))


def featurize(columns):
    """[CLS] text [SEP], and a class."""
    tokens = TOKENIZER.tokenize(columns["text"])
    edge = tf.ones([tokens.nrows(), 1], tf.int32)
    tokens = tf.concat([BEGIN * edge, tokens, END * edge], 1)
    return {"token_ids": tokens, "segment_ids": tf.ones_like(tokens)}, tf.where(
        columns["label"] == "yes", 1, 0
    )


def random_rows(seed, count=600, longest=40):
    rng = random.Random(seed)

    def text():
        return "".join(rng.choices("abcdefgh ", k=rng.choice([*range(12), longest])))

    return [(text(), rng.choice(["yes", "no"])) for _ in range(count)]


def examples(batches):
    """What batches deliver, without padding: ids and label of each example."""
    return [
        (tuple(row[: len(row) - (row == PAD).sum()].tolist()), int(label))
        for inputs, labels in batches
        for row, label in zip(inputs["token_ids"], labels, strict=True)
    ]


def expected_examples(rows, max_length):
    found = [
        ((BEGIN, *ids(text), END), int(label == "yes")) for text, label in rows if text.strip()
    ]
    return [example for example in found if len(example[0]) <= max_length]


def counts(size):
    tokens = sum(size.tokens.values())
    return size.examples, size.too_long, size.empty, tokens, size.batches


def same_batches(one, other):
    def same(a, b):
        return all(np.array_equal(x, y) for x, y in zip(*map(tf.nest.flatten, (a, b)), strict=True))

    return len(one) == len(other) and all(map(same, one, other))


# --- All once -------------------------------------------------------------------------------------


def test_examples_are_featurised_and_padded(tmp_path):
    records = put(tmp_path, [("ab c", "yes"), ("d", "no")])
    ((inputs, labels),) = make_example_batches(
        records, featurize, Batching(64, 16), padding_id=PAD
    ).as_numpy_iterator()
    assert inputs["token_ids"].tolist() == [
        [BEGIN, *ids("ab c"), END],
        [BEGIN, *ids("d"), END, PAD, PAD],
    ]
    assert inputs["segment_ids"].tolist() == [[1] * 5, [1] * 3 + [0] * 2]
    assert labels.tolist() == [1, 0]
    assert {x.dtype for x in (labels, *inputs.values())} == {np.dtype("int32")}


def test_labels_of_tokens_are_padded_with_what_counts_for_nothing(tmp_path):
    records = put(tmp_path, [("ab c", "1 0 2"), ("d", "5")])

    def tag(columns):
        numbers = tf.strings.to_number(tf.strings.split(columns["label"]), tf.int32)
        return {"token_ids": TOKENIZER.tokenize(columns["text"])}, numbers

    ((_, labels),) = make_example_batches(records, tag, Batching(64, 16)).as_numpy_iterator()
    assert labels.tolist() == [[1, 0, 2], [5, -1, -1]]
    ((_, labels),) = make_example_batches(records, tag, Batching(64, 16), label_padding=0)
    assert labels.numpy().tolist() == [[1, 0, 2], [5, 0, 0]]


def test_tensors_of_other_kinds_pass(tmp_path):
    records = put(tmp_path, [("ab", "0.5"), ("c", "1.5")])

    def mixed(columns):
        tokens = TOKENIZER.tokenize(columns["text"])
        inputs = {
            "token_ids": tokens.to_tensor(shape=[None, 4]),  # dense: every row counts as 4
            "spans": tf.RaggedTensor.from_row_lengths(
                tf.ones_like(tokens.values) > 0, tokens.row_lengths()
            ),
            "text": columns["text"],
        }
        score = tf.strings.to_number(columns["label"])
        return inputs, {"score": score, "curve": tf.RaggedTensor.from_tensor(score[:, None])}

    ((inputs, labels),) = make_example_batches(
        records, mixed, Batching(64, 16), padding_id=PAD
    ).as_numpy_iterator()
    assert inputs["token_ids"].tolist() == [[*ids("ab"), 0, 0], [*ids("c"), 0, 0, 0]]
    assert inputs["spans"].tolist() == [[True, True], [True, False]]
    assert inputs["text"].tolist() == [b"ab", b"c"]
    assert (labels["score"].tolist(), labels["curve"].tolist()) == ([0.5, 1.5], [[0.5], [1.5]])
    assert count_examples(records, mixed, Batching(64, 16)).tokens == {"token_ids": 8}


@pytest.fixture(scope="module", params=[(9, 9), (96, 24), (1000, 42)], ids=str)
def corpus(request, tmp_path_factory):
    """Random examples, how they are batched, what is counted and what is delivered."""
    rows, batching = random_rows(request.param[0]), Batching(*request.param)
    records = put(tmp_path_factory.mktemp("corpus"), rows)
    batches = make_example_batches(records, featurize, batching, padding_id=PAD)
    size = count_examples(records, featurize, batching)
    return rows, batching, size, list(batches.as_numpy_iterator())


def test_what_is_counted_is_what_batches_deliver(corpus):
    rows, batching, size, batches = corpus
    assert len(rows) > 2 * EXAMPLES_AT_ONCE
    found = examples(batches)
    expected = expected_examples(rows, batching.max_length)
    empty = sum(not text.strip() for text, _ in rows)
    tokens = sum(len(tokens) for tokens, _ in found)
    too_long = len(rows) - len(expected) - empty
    assert counts(size) == (len(expected), too_long, empty, tokens, len(batches))
    assert size.empty > 0 and (size.too_long > 0 or batching.max_length == 42)


def test_every_usable_example_is_delivered_once(corpus):
    rows, batching, _, batches = corpus
    assert sorted(examples(batches)) == sorted(expected_examples(rows, batching.max_length))


def test_a_batch_holds_its_tokens_and_no_more(corpus):  # L47
    _, batching, _, batches = corpus
    full = 0
    for inputs, labels in batches:
        tokens = inputs["token_ids"]
        assert tokens.shape == inputs["segment_ids"].shape == (len(labels), tokens.shape[1])
        assert tokens.shape[1] <= batching.max_length and tokens.size <= batching.batch_tokens
        full += tokens.size > batching.batch_tokens / 2
        widths = (tokens != PAD).sum(1)
        assert len({batching.bucket_of(width) for width in widths.tolist()}) == 1
    assert full >= len(batches) / 2
    widths = {inputs["token_ids"].shape[1] for inputs, _ in batches}
    assert len(widths) > (1 if batching.max_length == 9 else 3)


def test_all_inputs_that_are_named_decide_the_length(tmp_path):
    (tmp_path / "a").write_text("a\nabc\nabcdef\n")
    (tmp_path / "b").write_text("abcd\na\na\n")
    records = ParallelFiles(tmp_path / "a", tmp_path / "b")

    def pair(columns):
        sides = {f"{name}_ids": TOKENIZER.tokenize(text) for name, text in columns.items()}
        return sides, sides["target_ids"]

    options = {"length_of": ("source_ids", "target_ids")}
    size = count_examples(records, pair, Batching(9, 5), **options)
    assert counts(size) == (2, 1, 0, 9, 2)
    batches = list(make_example_batches(records, pair, Batching(9, 5), padding_id=PAD, **options))
    assert [inputs["source_ids"].numpy().tolist() for inputs, _ in batches] == [
        [ids("a")],
        [ids("abc")],
    ]
    with pytest.raises(
        InputError, match="gives no token_ids, but source_ids, target_ids: say with"
    ):
        count_examples(records, pair, Batching(9, 5))


def test_pictures_have_no_length(tmp_path):
    for i, label in enumerate(("cat", "cow", "dog")):
        (tmp_path / label).mkdir()
        for j in range(3):
            pixels = tf.fill([2, 2, 3], tf.constant(10 * i + j, tf.uint8))
            (tmp_path / label / f"{j}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    records = ImageFolder(tmp_path)

    def decode(columns):
        def pixels(path):
            return tf.ensure_shape(tf.io.decode_png(tf.io.read_file(path)), [2, 2, 3])

        made = tf.map_fn(pixels, columns["path"], fn_output_signature=tf.uint8)
        return {"pixels": tf.cast(made, tf.float32)}, tf.equal(columns["label"], "dog")

    options = {"length_of": ()}
    batching = Batching(4 * 5, 5)  # 4 pictures of 5 patches
    size = count_examples(records, decode, batching, **options)
    assert counts(size) == (9, 0, 0, 45, 3)
    batches = list(make_example_batches(records, decode, batching, **options))
    assert [inputs["pixels"].shape.as_list() for inputs, _ in batches] == [[4, 2, 2, 3]] * 2 + [
        [1, 2, 2, 3]
    ]
    assert np.concatenate([x["pixels"][:, 1, 1, 2] for x, _ in batches]).tolist() == [
        10 * i + j for i in range(3) for j in range(3)
    ]
    assert np.concatenate([y for _, y in batches]).tolist() == [False] * 6 + [True] * 3


def test_blank_columns_never_reach_the_task(tmp_path):
    records = put(tmp_path, [("a", "1"), ("b", " "), ("\t"[:0], "2"), ("c", "3")])

    def strict(columns):  # to_number refuses what is blank
        return {"token_ids": TOKENIZER.tokenize(columns["text"])}, tf.strings.to_number(
            columns["label"]
        )

    assert count_examples(records, strict, Batching(64, 16)).empty == 2
    ((_, labels),) = make_example_batches(records, strict, Batching(64, 16))
    assert labels.numpy().tolist() == [1, 3]

    def vowels(columns):  # what is not blank may have no tokens all the same
        text = tf.strings.regex_replace(columns["text"], "[^ae]", "")
        return {"token_ids": TOKENIZER.tokenize(text)}, columns["label"]

    size = count_examples(records, vowels, Batching(64, 16))
    assert counts(size) == (1, 0, 3, 1, 1)
    ((_, labels),) = make_example_batches(records, vowels, Batching(64, 16))
    assert labels.numpy().tolist() == [b"1"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("abc" * 9, "no"), ("", "yes")], "1 have more than 8 tokens, 1 have an empty column"),
        ([], "0 have more than 8 tokens, 0 have an empty column"),
    ],
)
def test_records_without_usable_examples_are_refused(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        count_examples(put(tmp_path, rows), featurize, Batching(64, 8))


# --- Batches for training -------------------------------------------------------------------------


def mask(inputs, labels, seed):
    """A masked language model's inputs and labels."""
    made = mask_tokens(
        inputs["token_ids"],
        seed,
        mask_id=1,
        vocabulary_size=len(TOKENIZER),
        special_ids=[BEGIN, END, PAD],
        rate=0.5,
    )
    return {**inputs, "token_ids": made["token_ids"], "places": made["places"]}, made["labels"]


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """Makes lists of batches for training from the same records; and those records."""
    rows, batching = random_rows(4, 300), Batching(64, 16)
    records = put(tmp_path_factory.mktemp("training"), rows)

    @functools.cache
    def size(worker):
        return count_examples(records, featurize, batching, worker=worker)

    def batches(count, seed=3, first_batch=0, worker=(0, 1), **options):
        made = make_example_training_batches(
            records,
            featurize,
            batching,
            seed,
            size(worker),
            first_batch,
            worker=worker,
            padding_id=PAD,
            **options,
        )
        return list(itertools.islice(made.as_numpy_iterator(), count))

    batches.rows, batches.records, batches.batching = rows, records, batching
    batches.size, batches.epoch = size, size((0, 1)).batches
    batches.plain = batches(3 * batches.epoch)  # three epochs
    return batches


def test_the_order_is_decided_by_the_seed_alone(training):
    first = training.plain[:30]
    tf.random.set_seed(17)
    assert same_batches(first, training(30))
    assert not same_batches(first, training(30, seed=4))


def test_every_epoch_has_every_example_in_another_order(training):
    batches = training.plain
    epochs = [examples(batches[i * training.epoch :][: training.epoch]) for i in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(expected_examples(training.rows, 16))
    for one, other in itertools.combinations(epochs, 2):
        assert one != other


def test_starting_later_is_the_same_as_skipping(training):  # masks and all
    epoch = training.epoch
    whole = training(2 * epoch + 6, corrupt=mask)
    for first in (epoch - 1, 2 * epoch + 3):  # others in test_parallel_text.py
        rest = training(len(whole) - first, first_batch=first, corrupt=mask)
        assert same_batches(whole[first:], rest)


def test_workers_share_the_examples(training):
    found = []
    for index in range(2):
        size = training.size((index, 2))
        batches = training(size.batches + 5, worker=(index, 2))
        mine = examples(batches[: size.batches])
        assert len(mine) == size.examples
        found += mine
        rest = training(6, worker=(index, 2), first_batch=size.batches - 1)
        assert same_batches(rest, batches[size.batches - 1 :])
    assert sorted(found) == sorted(expected_examples(training.rows, 16))


def test_damage_is_another_one_in_every_batch_epoch_and_worker(training, tmp_path):  # M07
    rows = [("abcdefgh", "yes")] * 40
    records, batching = put(tmp_path, rows), Batching(100, 10)
    size = count_examples(records, featurize, batching)
    assert size.batches == 4

    def places(worker):
        share = dataclasses.replace(size, batches=2) if worker[1] > 1 else size
        batches = make_example_training_batches(
            records, featurize, batching, 3, share, worker=worker, corrupt=mask
        )
        return [x["places"].tolist() for x, _ in itertools.islice(batches.as_numpy_iterator(), 8)]

    made = [*places((0, 1))]  # two epochs
    assert all(one != other for one, other in itertools.combinations(made, 2))
    both = [*places((0, 2)), *places((1, 2))]
    assert all(one != other for one, other in itertools.combinations(both, 2))


def test_validation_sees_the_same_damage_every_time(training):
    def batches(seed=0):
        made = make_example_batches(
            training.records, featurize, training.batching, padding_id=PAD, corrupt=mask, seed=seed
        )
        return list(made.as_numpy_iterator())

    one = batches()
    assert same_batches(one, batches())
    assert not same_batches(one, batches(seed=1))
    plain = make_example_batches(training.records, featurize, training.batching, padding_id=PAD)
    for (inputs, labels), (before, _) in zip(one, plain.as_numpy_iterator(), strict=True):
        real = labels >= 0
        picked = np.take_along_axis(before["token_ids"], inputs["places"], 1)
        assert np.array_equal(picked[real], labels[real])


def test_what_is_damaged_on_disk_stops_the_batches(tmp_path):
    records = put(tmp_path, [("a", "yes"), ("b",)])
    with pytest.raises(tf.errors.OpError, match=r"a\.tsv, line 2: 1 fields"):
        list(make_example_batches(records, featurize, Batching(64, 16)))
