"""Tests of parallel text in many files, of mixtures and of several workers.

Also: training.data.reading, training.data.turns.
"""

import functools
import itertools

import pytest
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

from keras_transformer.models.config import END_ID, UNKNOWN_ID
from keras_transformer.training.data import examples
from keras_transformer.training.data.batching import Batching
from keras_transformer.training.data.corpora import Mixture, ParallelFiles
from keras_transformer.training.data.parallel_text import (
    make_batches,
    make_training_batches,
    measure,
)

__all__ = ["write"]

BATCHING = Batching(64, 16)


def write_corpus(folder, name, pairs, files):
    """Deal pairs out to files, and return the pattern of all."""
    for i in range(files):
        (folder / f"{name}-{i}").mkdir(parents=True)
        write_pairs(folder / f"{name}-{i}", pairs[i::files], ".gz" if i % 2 else "")
    return ParallelFiles(folder / f"{name}-*" / "source.*", folder / f"{name}-*" / "target.*")


@functools.cache
def measured(corpus, worker=(0, 1)):
    return measure(corpus, TOKENIZER, BATCHING, worker)


def take(corpus, count, first_batch=0, seed=3, worker=(0, 1), **options):
    """The batches from one number on; all of an epoch if `count` is None."""
    size = measured(corpus, worker)
    made = make_training_batches(
        corpus, TOKENIZER, BATCHING, seed, size, first_batch, worker=worker, **options
    )
    return list(itertools.islice(made.as_numpy_iterator(), count or size.batches))


def marked_pairs(letter, count, longest):
    """Pairs whose target tells where they are from."""
    return [(source.strip() or "h", letter) for source, _ in random_pairs(letter, count, longest)]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A corpus in five files, and its pairs."""
    pairs = random_pairs(5, 400)
    return write_corpus(tmp_path_factory.mktemp("shards"), "shard", pairs, 5), pairs


def test_many_files_are_one_corpus(shards):
    corpus, pairs = shards
    assert corpus.check() == len(pairs)
    in_order = [pair for i in range(5) for pair in pairs[i::5]]
    batches = make_batches(corpus, TOKENIZER, Batching(16, 16)).as_numpy_iterator()
    assert sorted(rows(batches)) == sorted(expected_rows(in_order, 16))
    epoch = take(corpus, None)
    assert sorted(rows(epoch)) == sorted(expected_rows(pairs, 16))
    assert not same_batches(epoch[:40], take(corpus, 40, seed=4))
    assert same_batches(epoch[:40], take(corpus, 40))


def test_files_are_read_in_another_order_in_each_epoch(shards, monkeypatch):
    monkeypatch.setattr(examples, "SHUFFLE_EXAMPLES", 1)  # no shuffling but that of the files
    corpus, pairs = shards
    epoch = len(take(corpus, None))
    batches = take(corpus, 3 * epoch)
    epochs = [rows(batches[i * epoch :][:epoch]) for i in range(3)]
    assert all(sorted(epoch) == sorted(expected_rows(pairs, 16)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    begin = set(rows(batches[:6]))  # the lines of the first batches are not of one file
    assert sum(bool(begin & set(expected_rows(pairs[i::5], 16))) for i in range(5)) >= 4


@pytest.mark.parametrize(("count", "files"), [(2, 5), (3, 1), (3, 2)])
def test_workers_have_the_corpus_together(tmp_path, files, count):
    pairs = random_pairs(6)
    corpus = write_corpus(tmp_path, "part", pairs, files)
    shares = [rows(take(corpus, None, worker=(i, count))) for i in range(count)]
    # Each has a share of its own: together they have every pair as often as the corpus.
    assert sorted(itertools.chain(*shares)) == sorted(expected_rows(pairs, 16))
    assert all(len(share) > len(pairs) / count / 3 for share in shares)
    if files >= count:  # whole files
        for i, share in enumerate(shares):
            mine = [pair for file in range(i, files, count) for pair in pairs[file::files]]
            assert sorted(share) == sorted(expected_rows(mine, 16))


def test_a_worker_goes_on_where_it_stopped(shards):
    corpus, _ = shards
    for worker in [(1, 2), (6, 7)]:
        epoch = len(take(corpus, None, worker=worker))
        whole = take(corpus, 2 * epoch + 3, worker=worker)
        assert same_batches(whole[epoch + 1 :], take(corpus, epoch + 2, epoch + 1, worker=worker))


def test_lines_of_one_file_are_dealt_out(write):
    corpus = write([(f"{'ab'[i % 2]}", "a" * (i // 2 % 7 + 1)) for i in range(60)])
    sources = [{row[0] for row in rows(take(corpus, None, worker=(i, 2)))} for i in range(2)]
    assert sources == [{(*ids("a"), END_ID)}, {(*ids("b"), END_ID)}]


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    """Three texts of different size and length, of which the smallest has most weight."""
    folder = tmp_path_factory.mktemp("mixture")
    texts = {
        "a": marked_pairs("a", 60, 3),
        "b": marked_pairs("b", 500, 15),
        "c": marked_pairs("c", 200, 1) + [("h" * 15, "c")] * 99,
    }
    parts = tuple(
        write_corpus(folder, letter, texts[letter], 1 + (letter == "b")) for letter in texts
    )
    return Mixture(parts, (6, 3, 1)), texts


def from_text(batches, letter):
    (piece,) = ids(letter)
    return [row for row in rows(batches) if row[2][0] == piece]


def test_texts_of_a_mixture_have_their_shares_of_the_pairs(mixture):
    corpus, _ = mixture
    size = measured(corpus)
    batches = take(corpus, 2000)
    counts = [len(from_text(batches, letter)) for letter in "abc"]
    for count, share in zip(counts, (0.6, 0.3, 0.1), strict=True):
        assert count / sum(counts) == pytest.approx(share, abs=0.01)
    # An epoch is as many pairs as there are.
    assert sum(counts) / 2000 * size.batches == pytest.approx(size.pairs, rel=0.03)
    assert [part.pairs for part in size.parts] == [60, 500, 299]
    # Few batches already have nearly these shares.
    assert len(from_text(batches[:40], "a")) / len(rows(batches[:40])) == pytest.approx(
        0.6, abs=0.1
    )


def test_each_text_of_a_mixture_has_epochs_of_its_own(mixture):
    corpus, texts = mixture
    batches = take(corpus, 600)
    for letter, pairs in texts.items():
        delivered, expected = from_text(batches, letter), sorted(expected_rows(pairs, 16))
        epochs = len(delivered) // len(pairs)
        assert epochs >= 1
        for i in range(epochs):
            assert sorted(delivered[i * len(pairs) :][: len(pairs)]) == expected
    assert len(from_text(batches, "a")) > 20 * len(texts["a"])


def test_a_mixture_goes_on_where_it_stopped(mixture):
    corpus, _ = mixture
    whole = take(corpus, 420)
    for first in (77, 411):
        assert same_batches(whole[first:], take(corpus, 420 - first, first_batch=first))
    assert not same_batches(whole[:20], take(corpus, 20, seed=4))


def test_workers_share_a_mixture(mixture):
    corpus, texts = mixture
    kinds = []
    for i, seed in ((0, 3), (1, 3), (0, 4)):
        batches = take(corpus, 300, seed=seed, worker=(i, 2))
        of_mine = expected_rows(texts["b"][i::2], 16)  # there are two files of "b"
        assert set(from_text(batches, "b")) == set(of_mine)
        kinds.append([int(labels[0, 0]) for _, labels in batches])
    # They do not take their batches from the same text at the same time; the seed decides.
    assert kinds[0] != kinds[1]
    assert kinds[0] != kinds[2]


def test_a_mixture_without_weights_is_one_corpus(mixture):
    weighted, texts = mixture
    corpus = Mixture(weighted.parts)
    everything = [pair for pairs in texts.values() for pair in pairs]
    assert sorted(rows(take(corpus, None))) == sorted(expected_rows(everything, 16))
    assert any(len({row[2] for row in rows([batch])}) > 1 for batch in take(corpus, 10))


def test_a_byte_order_mark_is_no_text(tmp_path):
    for name in ("s", "t"):
        (tmp_path / f"{name}1").write_bytes(b"\xef\xbb\xbfab\n\xef\xbb\xbfc\n")
        (tmp_path / f"{name}2").write_bytes(b"\xef\xbb\xbfdef\n")
    corpus = ParallelFiles(tmp_path / "s?", tmp_path / "t?")
    lines = list(corpus.lines())
    assert lines == ["ab", "\ufeffc", "def"] * 2
    expected = expected_rows(list(zip(lines[:3], lines[3:], strict=True)), 16)
    assert UNKNOWN_ID in expected[1][0]  # within a text it is a character like others
    in_order = make_batches(corpus, TOKENIZER, BATCHING).as_numpy_iterator()
    assert sorted(rows(in_order)) == sorted(expected)
    assert sorted(rows(take(corpus, None))) == sorted(expected)
