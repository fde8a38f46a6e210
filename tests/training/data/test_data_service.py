"""Tests of keras_transformer.training.data.data_service."""

import itertools
import os
import socket
import subprocess
import sys

import pytest
from fixtures_data import TOKENIZER, expected_rows, random_pairs, rows, same_batches, write_pairs

from keras_transformer.errors import InputError
from keras_transformer.models.config import UNKNOWN_ID
from keras_transformer.training.data.batching import Batching
from keras_transformer.training.data.corpora import Mixture
from keras_transformer.training.data.data_service import serve
from keras_transformer.training.data.parallel_text import make_training_batches, measure

BATCHING = Batching(64, 16)


# A dispatcher with one worker, and one with two.
SERVICES = """
from keras_transformer.training.data.data_service import serve

running = []
for workers in (1, 2):
    dispatcher = serve("dispatcher")
    running += [dispatcher]
    for _ in range(workers):
        running += [serve("worker", dispatcher=dispatcher.target, host="localhost")]
    print(dispatcher.target, flush=True)
running[0].join()
"""


@pytest.fixture(scope="module")
def services():
    """The addresses of two services in another process, with one worker and with two."""
    command = [sys.executable, "-c", SERVICES]
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        yield [process.stdout.readline().strip() for _ in range(2)]
        process.kill()


@pytest.fixture
def one_worker(services):
    return services[0]


@pytest.fixture
def two_workers(services):
    return services[1]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A text, its pairs and its size."""
    pairs = random_pairs(8)
    files = write_pairs(tmp_path_factory.mktemp("service"), pairs)
    return files, pairs, measure(files, TOKENIZER, BATCHING)


def take(count, corpus, size, *args, **options):
    made = make_training_batches(corpus, TOKENIZER, BATCHING, 3, size, *args, **options)
    return list(itertools.islice(made.as_numpy_iterator(), count))


def test_a_service_with_one_worker_makes_the_same_batches(one_worker, corpus):
    files, _, size = corpus
    here, there = (
        take(2 * size.batches + 5, files, size, data_service=address)
        for address in (None, one_worker)
    )
    assert same_batches(here, there)
    later = take(10, files, size, size.batches + 3, data_service=one_worker)
    assert same_batches(here[size.batches + 3 :][:10], later)


def test_each_trainer_has_its_share_and_drops_its_own_tokens(one_worker, corpus):
    files, pairs, _ = corpus
    delivered = []
    for worker in ((0, 2), (1, 2)):
        size = measure(files, TOKENIZER, BATCHING, worker)
        delivered += take(size.batches, files, size, worker=worker, data_service=one_worker)
    assert sorted(rows(delivered)) == sorted(expected_rows(pairs, 16))
    size = measure(files, TOKENIZER, BATCHING)
    here, there = (
        take(20, files, size, token_dropout=0.5, data_service=address)
        for address in (None, one_worker)
    )
    assert any((inputs["source_ids"] == UNKNOWN_ID).any() for inputs, _ in there)
    assert same_batches(here, there)


def test_a_mixture_is_made_by_a_service(one_worker, corpus, tmp_path):
    files, _, _ = corpus
    mixture = Mixture((files, write_pairs(tmp_path, random_pairs(9))), (1, 3))
    size = measure(mixture, TOKENIZER, BATCHING)
    here, there = (take(100, mixture, size, data_service=address) for address in (None, one_worker))
    assert same_batches(here, there)


def test_two_workers_of_a_service_make_different_epochs(two_workers, corpus):
    files, pairs, size = corpus
    batches = take(20 * size.batches, files, size, data_service=two_workers)
    # If both made the same epochs, each batch would come twice.
    different = {(inputs["source_ids"].tobytes(), labels.tobytes()) for inputs, labels in batches}
    assert len(different) > 0.8 * len(batches)
    # Of 20 epochs that are made by two, all but the last few are whole.
    counts = dict.fromkeys(expected_rows(pairs, 16), 0)
    for row in rows(batches):
        counts[row] += 1
    expected = expected_rows(pairs, 16)
    once = [counts[row] for row in expected if expected.count(row) == 1]
    assert len(once) > 100
    assert 20 - 4 <= min(once) <= max(once) <= 20 + 4


def test_an_address_where_nothing_answers_is_refused(corpus):
    files, _, size = corpus
    with socket.create_server(("localhost", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(InputError, match=f"No tf.data service answers at grpc://localhost:{port}"):
        take(1, files, size, data_service=f"grpc://localhost:{port}")


def test_a_service_listens_where_it_says():
    dispatcher = serve("dispatcher")
    worker = serve("worker", 0, dispatcher.target)
    _, _, port = dispatcher.target.rpartition(":")
    socket.create_connection(("localhost", int(port)), 5).close()
    worker.stop()


def test_what_can_not_be_served_is_refused():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"The dispatcher can't listen at port {port}"):
            serve("dispatcher", port)
    for arguments, message in [
        (("dispatcher", 1 << 16), "port must be from 0 to 65535, got 65536"),
        (("worker", 0), "A worker needs the address of its --dispatcher"),
        (("dispatcher", 0, "grpc://a:1"), "a dispatcher has none"),
        (("worker", 0, "nowhere"), "nowhere is not the address of a tf.data service"),
    ]:
        with pytest.raises(InputError, match=message):
            serve(*arguments)
