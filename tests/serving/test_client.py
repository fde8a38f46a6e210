"""Tests of keras_transformer.serving.client, against the local server and against worse ones.

Also: serving.transports.
"""

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from fixtures_run import free_ports
from fixtures_serving import Capitals, Loaded, server, until

from keras_transformer.errors import InputError
from keras_transformer.export import AsyncClient, Client, ServerError
from keras_transformer.serving.client import Hypothesis

PROTOCOLS = ("rest", "grpc")
TEXTS = ["a", "", "é 猫 😀", "x\ny\t\0z", *[f"text {i}" for i in range(100)]]


@pytest.fixture(scope="module")
def served():
    made = {1: Capitals(mark="1 "), 2: Capitals(mark="2 ")}
    with server(Loaded(made, keep=2, labels={"stable": 1})) as running:
        yield running


@pytest.fixture(params=PROTOCOLS)
def client(request, served):
    with Client(getattr(served.at, request.param), "caps") as client:
        yield client


# --- One interface, two protocols -----------------------------------------------------------------


def test_many_texts_go_in_batches_and_come_back_in_order(client, served):
    model = served.model.get().model
    model.batches.clear()
    answers = client.translate(TEXTS)
    assert [one.text for one in answers] == [
        f"2 {text.encode().upper().decode()}" for text in TEXTS
    ]
    assert [one.score for one in answers] == [-len(text.encode()) for text in TEXTS]
    assert max(len([row for row in batch if row]) for batch in model.batches) <= 32


def test_everything_that_can_be_asked(client):
    assert client.n_best(["a", "b"]) == [[Hypothesis("2 A", -0.5)], [Hypothesis("2 B", -0.5)]]
    assert client.score(["a", "b"], ["xy", "z"]) == [-2.0, -1.0]
    assert client.tokenize(["ab", "c"]) == [[97, 98], [99]]
    assert client.status() == {1: "AVAILABLE", 2: "AVAILABLE"}
    outputs = client.predict("score", text=["a"], target=["xyz"])
    assert outputs == {"score": [-3.0], "tokens": [3]}
    assert client.translate([]) == [] and client.n_best([]) == []
    assert client.tokenize([]) == [] and client.score([], []) == []
    with pytest.raises(InputError, match="same number of texts"):
        client.score(["a"], [])


def test_half_a_surrogate_pair_is_sent_as_bytes(client):
    (answer,) = client.translate(["a\ud800"])
    assert answer.text.startswith("2 A") and answer.score == -4


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_versions_and_labels_are_pinned(served, protocol):
    address = getattr(served.at, protocol)
    for place, mark in (({"version": 1}, "1 "), ({"label": "stable"}, "1 "), ({}, "2 ")):
        with Client(address, "caps", **place) as client:
            client.wait_until_ready(5)
            assert client.translate(["a"])[0].text == f"{mark}A"
    with Client(address, "caps", version=9) as client, pytest.raises(ServerError) as error:
        client.translate(["a"])
    assert error.value.code == "NOT_FOUND" and "version 9" in error.value.message


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("model", "signature", "inputs", "code", "words"),
    [
        ("other", "translate", {"text": ["a"]}, "NOT_FOUND", "not found"),
        ("caps", "none", {"text": ["a"]}, "INVALID_ARGUMENT", "'none' not found"),
        ("caps", "translate", {"wrong": ["a"]}, "INVALID_ARGUMENT", "'wrong'"),
        ("caps", "serving_default", {"text": ["explode"]}, "INTERNAL", "the log has more"),
        ("../x", "translate", {"text": ["a"]}, "NOT_FOUND", ""),
    ],
)
def test_errors_have_one_form(served, protocol, model, signature, inputs, code, words):
    since = time.monotonic()
    with Client(getattr(served.at, protocol), model) as client, pytest.raises(ServerError) as error:
        client.predict(signature, **inputs)
    assert error.value.code == code and words in error.value.message
    assert time.monotonic() - since < 5  # these are not tried again


@pytest.mark.parametrize("address", ["localhost:8501", "ftp://x", "http://", ""])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InputError, match="is not an address; give http://host:port or grpc"):
        Client(address, "caps")


def test_a_version_and_a_label_exclude_each_other():
    with pytest.raises(InputError, match="a version or a label"):
        Client("http://localhost:1", "caps", version=1, label="x")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_asynchronous_use(served, protocol):
    async def main():
        async with AsyncClient(getattr(served.at, protocol), "caps") as client:
            await client.wait_until_ready(5)
            return await asyncio.gather(*(client.translate([f"t{i}"]) for i in range(40)))

    assert [one.text for (one,) in asyncio.run(main())] == [f"2 T{i}" for i in range(40)]


# --- A server that is away, slow, full or something else ------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_is_away_is_waited_for_no_longer_than_allowed(protocol):
    (port,) = free_ports(1)
    scheme = "http" if protocol == "rest" else "grpc"
    with Client(f"{scheme}://127.0.0.1:{port}", "caps", timeout=0.6) as client:
        since = time.monotonic()
        with pytest.raises(ServerError) as error:
            client.translate(["a"])
        assert error.value.code == "UNAVAILABLE"
        with pytest.raises(ServerError):
            client.wait_until_ready(0.3)
        assert time.monotonic() - since < 3


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_deadline_is_kept(protocol):
    model = Capitals()
    with server(Loaded({1: model})) as served:
        model.free.clear()
        with Client(getattr(served.at, protocol), "caps", timeout=0.4) as client:
            since = time.monotonic()
            with pytest.raises(ServerError) as error:
                client.translate(["a"])
            assert error.value.code == "DEADLINE_EXCEEDED"
            assert time.monotonic() - since < 2
        model.free.set()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_full_queue_is_waited_for(protocol):
    model = Capitals()
    with server(Loaded({1: model}), queue_rows=1) as served:
        model.free.clear()
        answers = []
        with Client(getattr(served.at, protocol), "caps", batch_size=1, concurrency=8) as client:
            asking = threading.Thread(
                target=lambda: answers.extend(client.translate([f"t{i}" for i in range(8)]))
            )
            asking.start()
            refused = served.metrics.requests.labels(
                "rest" if protocol == "rest" else "grpc",
                "predict" if protocol == "rest" else "Predict",
                "RESOURCE_EXHAUSTED",
            )
            until(lambda: refused._value.get() >= 6)  # most of them
            model.free.set()
            asking.join()
        assert [one.text for one in answers] == [f"T{i}" for i in range(8)]


class Unreliable(BaseHTTPRequestHandler):
    """Answers as a list says: a status with a body, or nothing at all."""

    answers: ClassVar[list] = []

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body = self.answers.pop(0)
        if status is None:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def unreliable():
    with ThreadingHTTPServer(("127.0.0.1", 0), Unreliable) as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{other.server_port}"
        other.shutdown()
        thread.join()


GOOD = json.dumps({"outputs": {"text": ["A"], "score": [-1.0]}}).encode()


@pytest.mark.parametrize(
    "trouble",
    [
        [(503, b'{"error": "later"}')],
        [(429, b'{"error": "full"}')] * 3,
        [(None, b"")] * 2,
        [(502, b"<html>a proxy</html>"), (None, b""), (503, b"")],
    ],
)
def test_trouble_that_passes_is_sat_out(unreliable, trouble):
    Unreliable.answers = [*trouble, (200, GOOD)]
    with Client(unreliable, "caps") as client:
        assert client.translate(["a"]) == [Hypothesis("A", -1.0)]
    assert Unreliable.answers == []


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, b"<html>", "INTERNAL"),
        (400, b'{"error": "bad"}', "INVALID_ARGUMENT"),
        (500, b"", "INTERNAL"),
        (404, b'{"error": "none"}', "NOT_FOUND"),
    ],
)
def test_trouble_that_stays_is_an_error_at_once(unreliable, status, body, code):
    Unreliable.answers = [(status, body), (200, GOOD)]
    with Client(unreliable, "caps") as client, pytest.raises(ServerError) as error:
        client.translate(["a"])
    assert error.value.code == code
    assert len(Unreliable.answers) == 1


def test_pauses_between_tries_grow(unreliable, monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr("random.uniform", lambda low, high: 1.0)
    Unreliable.answers = [(503, b"{}")] * 8 + [(200, GOOD)]
    with Client(unreliable, "caps") as client:
        client.translate(["a"])
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_the_rest_half_needs_no_tensorflow(served):
    code = f"""
import sys
from keras_transformer.export import Client
with Client({served.at.rest!r}, "caps") as client:
    print(client.translate(["a"])[0].text)
print([name for name in ("tensorflow", "keras", "grpc") if name in sys.modules])
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout == "2 A\n[]\n"
