"""Tests of the command `keras-transformer serve` as a process, alone and under load.

Also: cli.serve, serving.log.
"""

import itertools
import json
import random
import shutil
import socket
import subprocess
import threading
import time
import urllib.request

import pytest
from fixtures_cli import call as cli
from fixtures_run import WORDS, exported, free_ports, trained
from fixtures_serving import call, server, until
from serve_load import (
    GrpcClient,
    RestClient,
    RetryingClient,
    Server,
    apply_load,
    expected_of,
    publish_copy,
)

from keras_transformer.export import runtime
from keras_transformer.serving.client import Client
from keras_transformer.serving.versions import Model

__all__ = ["cli", "exported", "trained"]

NAME = "capitals"


def distinct_texts(count):
    """Texts of one to eight words, no two of them the same."""
    rng = random.Random(0)
    made = {}
    while len(made) < count:
        made[" ".join(rng.choices(WORDS, k=rng.randint(1, 8)))] = None
    return list(made)


def mixed_clients(at, count):
    """Half of them by REST and half by gRPC."""
    return [(RestClient, GrpcClient)[i % 2](at) for i in range(count)]


def start(model, *options, **ports):
    return Server(model, *options, name=NAME, **ports)


@pytest.fixture(scope="module")
def model(exported):
    return runtime.load(exported.paths["savedmodel"])


@pytest.fixture(scope="module")
def expected(model):
    """What belongs to each of many texts."""
    found = expected_of(model, distinct_texts(400))
    # Hardly any two are alike, so that an answer to somebody else would be noticed.
    assert len(set(found.values())) > 390
    return found


@pytest.fixture(scope="module")
def base(exported, tmp_path_factory):
    """A folder of versions, to publish more of them."""
    return shutil.copytree(exported.folder / "savedmodel", tmp_path_factory.mktemp("base") / "all")


@pytest.fixture(scope="module")
def served(base):
    with start(base, "--poll-seconds=0.1", "--label=stable=1", "--versions=2") as at:
        yield at


# --- What the documentation shows -----------------------------------------------------------------


def ask_with_curl(address, body):
    if not shutil.which("curl"):
        return call(address, "", body)[1]
    command = ["curl", "--silent", "--fail", "-d", json.dumps(body), address]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=30).stdout)


@pytest.mark.parametrize("place", ["", "/versions/1", "/labels/stable"])
def test_curl_gets_the_saved_models_text(served, model, place):
    texts = ["red cat", "café. naïve house sun"]
    address = f"{served.rest}/v1/models/{NAME}{place}:predict"
    outputs = model.call("serving_default", text=texts)
    expected = [text.decode() for text in outputs["text"]]
    assert expected[0] == "RED CAT"
    scores = pytest.approx(outputs["score"].tolist(), abs=1e-4)

    rows = ask_with_curl(address, {"instances": texts})["predictions"]
    assert ([row["text"] for row in rows], [row["score"] for row in rows]) == (expected, scores)
    columns = ask_with_curl(address, {"inputs": {"text": texts}})["outputs"]
    assert (columns["text"], columns["score"]) == (expected, scores)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_the_client_gets_the_saved_models_text(served, model, protocol):
    texts = [*WORDS, "tree dog", ""]
    with Client(getattr(served, protocol), NAME, label="stable") as client:
        assert client.status()[1] == "AVAILABLE"
        found = [best.text for best in client.translate(texts)]
    assert found == [some[0] for some in model.run(texts)[0]]


def test_a_connection_is_used_again_without_delay(served):
    client, seconds = RestClient(served), []
    for _ in range(60):
        since = time.perf_counter()
        client.ask("red cat")
        seconds.append(time.perf_counter() - since)
    client.close()
    # An answer in two parts, the second of which waits for an acknowledgement, takes 40 ms more,
    # each of them once a connection is no longer new.
    assert min(seconds[20:]) < 0.03


@pytest.mark.parametrize("kind", ["tflite", "run"])
def test_what_is_no_saved_model_is_served_alike(trained, exported, model, expected, kind):
    path = trained.run.path if kind == "run" else exported.paths["tflite"]
    some = dict(itertools.islice(expected.items(), 40))
    with server(Model(NAME, path)) as running:
        with Client(running.at.rest, NAME) as client:
            answers = client.translate(list(some))
        assert [(best.text, best.score) for best in answers] == [
            (text, pytest.approx(score, abs=1e-3)) for text, score in some.values()
        ]


# --- The end, and no beginning --------------------------------------------------------------------


def assert_sigterm_lets_it_answer(at, model):
    texts = [" ".join(WORDS)] * 500
    answers = []

    def ask():
        answers.append(call(at.rest, f"/v1/models/{NAME}:predict", {"inputs": texts}))

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: rows_that_wait(at) > 0)
    assert at.end() == 0
    asking.join()
    assert "Traceback" not in at.errors()
    status, answer = answers[0]
    assert status == 200
    assert answer["outputs"]["text"] == [model.run(texts[:1])[0][0][0]] * 500
    with pytest.raises(OSError, match="refused"):
        call(at.rest, "/healthz")


def rows_that_wait(at):
    with urllib.request.urlopen(f"{at.rest}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    (line,) = [x for x in lines if x.startswith("keras_transformer_queue_rows ")]
    return float(line.split()[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--rest-port {taken} --grpc-port 0", "listen at 127.0.0.1 on port {taken}"),
        ("--rest-port 0 --grpc-port {taken}", "listen at 127.0.0.1 on the port for gRPC"),
        ("--label stable", "--label 'stable' has to be like stable=3"),
        ("--label stable=1 --label stable=2", "--label gives a name to two versions"),
        ("--name a/b", "'a/b' is not a valid name for a model"),
        ("--queue-rows 0", "--queue-rows must be positive, got 0"),
        ("--beam-size 4", "is not a run, and the options of generation are part"),
        ("--model {empty}", "is not a model"),
        ("--model {empty}/missing", "There is no file or folder"),
    ],
)
def test_what_can_not_be_served_is_said_in_one_line(exported, tmp_path, cli, arguments, message):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        values = {"taken": taken.getsockname()[1], "empty": tmp_path}
        command = ["serve", "--model", exported.folder, *arguments.format(**values).split()]
        status, output, error = cli(command)
    assert (status, output) == (2, "")
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message.format(**values) in error


# --- Load -----------------------------------------------------------------------------------------


def test_nothing_is_lost_or_mixed_up_while_versions_come_and_clients_go(served, base, expected):
    before = served.versions()

    def publish():
        version = int(publish_copy(base).name)
        until(lambda: version in served.versions(), 40)

    publishing = threading.Thread(target=publish)
    publishing.start()
    clients = mixed_clients(served, 16)
    load = apply_load(clients, expected, leaving=clients[::5], go_on=publishing.is_alive)
    publishing.join()
    assert (load.wrong, load.lost) == ([], [])
    assert len(load.seconds) >= 400 and len(load.left) >= 80
    assert len(served.versions()) == len(before) + 1
    assert "Traceback" not in served.errors() and "INTERNAL" not in served.errors()


def test_a_killed_server_is_waited_for_and_one_told_to_end_answers_first(exported, expected, model):
    path = exported.paths["tflite"]  # which is ready in half of the time
    ports = dict(zip(("rest_port", "grpc_port"), free_ports(2), strict=True))
    with start(path, **ports) as first:
        addresses, back = (first.rest, first.grpc), []

        def replace():
            time.sleep(0.3)
            first.kill()
            back.append(start(path, **ports))

        replacing = threading.Thread(target=replace)
        replacing.start()
        clients = [RetryingClient(address, NAME) for address in addresses * 4]
        load = apply_load(clients, expected, go_on=replacing.is_alive)
        replacing.join()
        with back[0]:
            assert (load.wrong, load.lost) == ([], [])
            # It was away in the middle, and there is no start without a second.
            assert max(load.seconds) > 1
            assert_sigterm_lets_it_answer(back[0], model)
