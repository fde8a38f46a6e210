"""Tests of keras_transformer.training.data.corpus_size and of batching's buckets."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from fixtures_data import TOKENIZER, random_pairs, write, write_pairs

from keras_transformer.errors import InputError
from keras_transformer.models import TransformerConfig
from keras_transformer.pipelines.tasks import TaskSettings
from keras_transformer.text import SPECIAL_TOKENS, WordPieceTokenizer
from keras_transformer.training.config import TrainingConfig
from keras_transformer.training.data import corpus_size
from keras_transformer.training.data.batching import Batching
from keras_transformer.training.data.corpora import Mixture, ParallelFiles
from keras_transformer.training.data.corpus_size import CorpusSize, count_examples
from keras_transformer.training.data.parallel_text import make_training_batches, measure
from keras_transformer.training.tasks import task
from keras_transformer.training.tasks.sequence_to_sequence import SequenceToSequence

__all__ = ["write"]

BATCHING = Batching(128, 40)
TRANSLATION = TaskSettings("translation")


def padding_of(batches):
    """The share of padding in both sides of some batches."""
    sides = [side for inputs, labels in batches for side in (inputs["source_ids"], labels)]
    return 1 - sum(np.count_nonzero(x) for x in sides) / sum(x.size for x in sides)


@pytest.mark.parametrize("batching", [BATCHING, Batching(2000, 40), Batching(40, 40)], ids=str)
def test_padding_is_as_expected(write, batching):
    files = write(random_pairs(1, 600))
    size = measure(files, TOKENIZER, batching)
    batches = make_training_batches(files, TOKENIZER, batching, 3, size)
    found = padding_of(batches.take(8 * size.batches).as_numpy_iterator())
    assert size.padding == pytest.approx(found, abs=0.01)
    assert found > 0.02


def test_pairs_of_one_length_need_no_padding(write):
    size = measure(write([("abc", "cba")] * 50), TOKENIZER, BATCHING)
    assert (size.source_tokens, size.target_tokens, size.padded_tokens) == (200, 200, 400)
    assert size.padding == 0


def test_a_batch_tells_the_bucket_that_it_is_from(write):
    files = write(random_pairs(2))
    size = measure(files, TOKENIZER, BATCHING)
    batches = make_training_batches(files, TOKENIZER, BATCHING, 3, size).take(size.batches)
    assert BATCHING.lengths == [8, 10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 36, 40]
    seen = set()
    for inputs, labels in batches.as_numpy_iterator():
        width = max(inputs["source_ids"].shape[1], labels.shape[1])
        bucket = BATCHING.bucket_of(width)
        seen.add(bucket)
        assert [0, *BATCHING.lengths][bucket] < width <= BATCHING.lengths[bucket]
        assert len(labels) <= BATCHING.sizes[bucket]
    assert {0, 1} < seen


def test_a_size_survives_json():
    part = CorpusSize(1, 2, 3, {"source_ids": 4, "target_ids": 5}, 12, 7)
    size = CorpusSize(2, 4, 6, {"source_ids": 8, "target_ids": 10}, 24, 14, {}, (part, part))
    assert CorpusSize.from_dict(json.loads(json.dumps(dataclasses.asdict(size)))) == size
    assert (size.pairs, size.source_tokens, size.target_tokens, size.padding) == (2, 8, 10, 0.25)


@pytest.fixture
def counted(monkeypatch):
    """The sizes that were counted, in order."""
    sizes = []

    def count(*args, **options):
        sizes.append(count_examples(*args, **options))
        return sizes[-1]

    monkeypatch.setattr(task, "count_examples", count)
    return sizes


def test_nothing_is_counted_twice_unless_it_changed(tmp_path, write, counted, monkeypatch):
    corpus = write(random_pairs(3, 40))
    (tmp_path / "more").mkdir()
    more = write_pairs(tmp_path / "more", random_pairs(4, 40))
    model = TransformerConfig(99, 1, 2, 8, 8)
    config = TrainingConfig("s", "t", "vs", "vt", 10, 0.01, 2)
    known = {}

    def ask(corpus=corpus, tokenizer=TOKENIZER, batching=BATCHING, worker=(0, 1), task=TRANSLATION):
        nonlocal known
        training = SequenceToSequence(model, task, config, tokenizer)
        training.data, training.batching = lambda part: corpus, lambda part, worker: batching
        known = json.loads(json.dumps(known))
        before = len(counted)
        size = training.measure(known, "training", worker)
        again = len(counted) > before
        if again:
            assert counted[-1] == size == measure(corpus, tokenizer, batching, worker)
        return again

    assert ask()
    assert not ask()
    monkeypatch.chdir(tmp_path)
    assert not ask(ParallelFiles(Path("source.txt"), Path("target.txt")))
    other = WordPieceTokenizer([*SPECIAL_TOKENS, *"hgfedcba", *("##" + c for c in "abcdefgh")])
    for change in (
        {"tokenizer": other},
        {"batching": Batching(100, 40)},
        {"worker": (0, 2)},
        {"task": TaskSettings("summarisation")},
        {"corpus": more},
        {"corpus": Mixture((corpus, more))},
        {"corpus": Mixture((corpus, more), (1, 1))},
        {"corpus": Mixture((corpus, more), (1, 2))},
    ):
        assert ask(**change), change
        assert not ask(**change), change
    ask()
    of_another_version = dict(known["training"]["size"], of_old=1)
    monkeypatch.setattr(corpus_size, "FIELDS", [*corpus_size.FIELDS, "of_old"])
    known["training"]["size"] = of_another_version
    assert ask()
    os.utime(corpus.source, (1, 1))
    assert ask()
    corpus.source.write_text(corpus.source.read_text() + "a\n")
    with pytest.raises(InputError, match=r"line 41 is missing in .*target\.txt"):
        ask()
    corpus.source.unlink()
    with pytest.raises(InputError, match=r"There is no file .*source\.txt"):
        ask()


def test_a_text_of_a_mixture_of_which_nothing_can_be_used_is_named(tmp_path, write):
    (tmp_path / "more").mkdir()
    useless = write_pairs(tmp_path / "more", [("", "a")] * 3)
    mixture = Mixture((write([("a", "b")]), useless), (1, 1))
    with pytest.raises(
        InputError, match=r"No example of .*more/source\.txt and .* 3 have an empty"
    ):
        measure(mixture, TOKENIZER, BATCHING)
    assert measure(Mixture(mixture.parts), TOKENIZER, BATCHING).pairs == 1
