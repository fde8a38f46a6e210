"""Tests of the local server's REST interface, by HTTP.

Also: serving.errors, serving.service, serving.tensors.
"""

import base64
import http.client
import json
import socket
import threading
import time

import pytest
from fixtures_serving import Capitals, Loaded, server, until

PREDICT = "/v1/models/caps:predict"


def head(path, length):
    """Write the beginning of a request by hand."""
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()


@pytest.fixture(scope="module")
def served():
    versions = {1: Capitals(mark="1 "), 2: Capitals(mark="2 ")}
    limits = {"body_bytes": 4000, "text_length": 100, "request_rows": 50, "seconds": 2}
    with server(Loaded(versions, keep=2, labels={"stable": 1}), **limits) as running:
        yield running


# --- TensorFlow Serving's forms -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (
            {"instances": ["a", "b"]},
            {"predictions": [{"text": "2 A", "score": -1.0}, {"text": "2 B", "score": -1.0}]},
        ),
        ({"instances": [{"text": "a"}]}, {"predictions": [{"text": "2 A", "score": -1.0}]}),
        ({"inputs": ["a", "bc"]}, {"outputs": {"text": ["2 A", "2 BC"], "score": [-1.0, -2.0]}}),
        ({"inputs": {"text": ["é"]}}, {"outputs": {"text": ["2 é"], "score": [-2.0]}}),
        (
            {"instances": [{"text": {"b64": base64.b64encode(b"ab").decode()}}]},
            {"predictions": [{"text": "2 AB", "score": -2.0}]},
        ),
        (
            {"instances": [{"b64": "YWI="}, "c"]},
            {"predictions": [{"text": "2 AB", "score": -2.0}, {"text": "2 C", "score": -1.0}]},
        ),
        ({"inputs": {"text": []}}, {"outputs": {"text": [], "score": []}}),
        (
            {"signature_name": "score", "inputs": {"text": ["a"], "target": ["abc"]}},
            {"outputs": {"score": [-3.0], "tokens": [3]}},
        ),
        (
            {"signature_name": "score", "instances": [{"text": "a", "target": "xy"}]},
            {"predictions": [{"score": -2.0, "tokens": 2}]},
        ),
        (
            {"signature_name": "tokenize", "instances": ["ab", "c"]},
            {
                "predictions": [
                    {"ids": [97, 98], "truncated": False},
                    {"ids": [99, 0], "truncated": False},
                ]
            },
        ),
    ],
)
def test_predict_in_both_forms(served, body, answer):
    assert served.call(PREDICT, body) == (200, answer)


def test_n_best_with_minus_infinity_as_tensorflow_serving_writes_it(served):
    status, answer = served.call(PREDICT, {"signature_name": "translate", "instances": ["a"]})
    assert status == 200
    assert answer == {"predictions": [{"text": ["2 A", "second"], "score": [-0.5, float("-inf")]}]}


@pytest.mark.parametrize(
    ("place", "mark"),
    [("", "2 "), ("/versions/1", "1 "), ("/versions/2", "2 "), ("/labels/stable", "1 ")],
)
def test_versions_and_labels(served, place, mark):
    status, answer = served.call(f"/v1/models/caps{place}:predict", {"instances": ["a"]})
    assert (status, answer["predictions"][0]["text"]) == (200, f"{mark}A")


def test_status_and_metadata(served):
    ok = {"error_code": "OK", "error_message": ""}
    one, two = ({"version": v, "state": "AVAILABLE", "status": ok} for v in "12")
    assert served.call("/v1/models/caps") == (200, {"model_version_status": [two, one]})
    assert served.call("/v1/models/caps/versions/1") == (200, {"model_version_status": [one]})
    assert served.call("/v1/models/caps/labels/stable") == (200, {"model_version_status": [one]})
    status, metadata = served.call("/v1/models/caps/versions/1/metadata")
    assert status == 200
    assert metadata["model_spec"] == {"name": "caps", "version": "1"}
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert signatures["score"]["method_name"] == "tensorflow/serving/predict"
    any_rows = {"dim": [{"size": "-1"}]}
    assert signatures["serving_default"]["inputs"] == {
        "text": {"name": "serving_default_text:0", "dtype": "DT_STRING", "tensor_shape": any_rows}
    }
    assert signatures["score"]["outputs"]["tokens"]["dtype"] == "DT_INT32"


# --- Bad requests: the right status, always JSON, and the server goes on --------------------------

BAD = [
    (PREDICT, b"{", 400, "JSON Parse error"),
    (PREDICT, b"", 400, "The body is empty"),
    (PREDICT, b"[" * 3000, 400, "JSON Parse error"),
    (PREDICT, b'"\xff"', 400, "JSON Parse error"),
    (PREDICT, b"[1]", 400, "has to be a JSON object"),
    (PREDICT, {}, 400, "needs either 'instances' or 'inputs'"),
    (PREDICT, {"instances": ["a"], "inputs": ["a"]}, 400, "and not both"),
    (PREDICT, {"instances": []}, 400, "a list that is not empty"),
    (PREDICT, {"instances": "a"}, 400, "a list that is not empty"),
    (PREDICT, {"instances": [1]}, 400, "'text' has to hold values of string"),
    (PREDICT, {"instances": [["a"]]}, 400, "'text' needs shape (any)"),
    (PREDICT, {"instances": ["a", ["b"]]}, 400, "values of string"),
    (PREDICT, {"instances": [None]}, 400, "values of string"),
    (PREDICT, {"instances": [{"b64": "%"}]}, 400, "values of string"),
    (PREDICT, {"instances": [{"wrong": "a"}]}, 400, "takes 'text', the request has 'wrong'"),
    (PREDICT, {"instances": [{"text": "a"}, {}]}, 400, "same names"),
    (PREDICT, {"inputs": {}}, 400, "takes 'text', the request has nothing"),
    (PREDICT, {"inputs": 5}, 400, "values of string"),
    (PREDICT, {"signature_name": 5, "instances": ["a"]}, 400, "'signature_name'"),
    (PREDICT, {"signature_name": "none", "instances": ["a"]}, 400, "'none' not found in signature"),
    (PREDICT, {"signature_name": "score", "inputs": ["a"]}, 400, "several inputs: name 'target', "),
    (
        PREDICT,
        {"signature_name": "score", "inputs": {"text": ["a"], "target": ["b", "c"]}},
        400,
        "same number of rows, got [1, 2]",
    ),
    (PREDICT, {"instances": ["x" * 101]}, 400, "100 characters, one in 'text' has 101"),
    (PREDICT, {"instances": ["x"] * 51}, 400, "may have 50 rows, got 51"),
    (PREDICT, {"instances": ["x" * 4000]}, 413, "may have 4000 bytes"),
    ("/v1/models/other:predict", {"instances": ["a"]}, 404, "Servable not found"),
    ("/v1/models/caps/versions/9:predict", {"instances": ["a"]}, 404, "has no version 9"),
    ("/v1/models/caps/versions/x:predict", {"instances": ["a"]}, 400, "'x' is no version"),
    ("/v1/models/caps/versions/-1:predict", {"instances": ["a"]}, 400, "'-1' is no version"),
    ("/v1/models/caps/versions/99999999999999999999", None, 400, "is no version"),
    ("/v1/models/caps/labels/x:predict", {"instances": ["a"]}, 404, "no label 'x'"),
    ("/v1/models/caps/versions/9", None, 404, "Could not find version 9"),
    ("/v1/models/other", None, 404, "Could not find any versions"),
    ("/v1/models/other/metadata", None, 404, "Servable not found"),
    ("/v1/models/caps:classify", {"examples": []}, 405, "Malformed request: POST"),
    ("/v1/models/caps:predict", None, 404, "Could not find any versions of model 'caps:predict'"),
    ("/v1/models/..%2f..%2fetc:predict", {"instances": ["a"]}, 404, "Malformed request"),
    ("/v1", None, 404, ""),
    ("/etc/passwd", None, 404, "Not Found"),
    ("/../setup.cfg", None, 404, ""),
    ("/v1/models/caps:stream", {"text": 5}, 400, "needs 'text', a string"),
    ("/v1/models/caps:stream", {"text": "x" * 101}, 400, "100 characters"),
    ("/v1/models/caps:stream", b"{", 400, "JSON Parse error"),
    ("/v1/models/other:stream", {"text": "a"}, 404, "Servable not found"),
    ("/v1/models/caps:attention", {"text": "a"}, 400, "needs 'target', a string"),
]


@pytest.mark.parametrize(("path", "body", "status", "message"), BAD)
def test_bad_requests_get_a_reason_in_json(served, path, body, status, message):
    found, answer = served.call(path, body)
    assert found == status
    assert set(answer) == {"error"} and message in answer["error"]
    assert served.call(PREDICT, {"instances": ["a"]})[0] == 200


def test_what_fails_inside_is_not_told(served):
    status, answer = served.call(PREDICT, {"instances": ["explode"]})
    assert (status, answer) == (500, {"error": "The model failed; the log has more."})


def test_a_body_without_a_length_is_measured_while_it_comes(served):
    connection = http.client.HTTPConnection(served.at.host, served.at.rest_port, timeout=10)
    chunks = (b" " * 500 for _ in range(20))
    connection.request(
        "POST", PREDICT, chunks, encode_chunked=True, headers={"Transfer-Encoding": "chunked"}
    )
    answer = connection.getresponse()
    assert answer.status == 413
    assert "4000 bytes" in json.loads(answer.read())["error"]
    connection.close()


def test_a_client_that_is_too_slow_is_let_go(served):
    with socket.create_connection((served.at.host, served.at.rest_port), 10) as slow:
        slow.sendall(head(PREDICT, 100) + b'{"inst')
        since = time.monotonic()
        answer = b""
        while b"too slowly" not in answer:  # head and body may come apart
            answer += (part := slow.recv(1000))
            assert part, answer
        assert answer.startswith(b"HTTP/1.1 408")
        assert 1 < time.monotonic() - since < 6


def test_what_is_no_http_is_refused(served):
    with socket.create_connection((served.at.host, served.at.rest_port), 10) as other:
        other.sendall(b"\x00\x01\x02 nonsense\r\n\r\n")
        assert other.recv(1000).startswith(b"HTTP/1.1 400")
    assert served.call(PREDICT, {"instances": ["a"]})[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:80", ""])
def test_a_page_elsewhere_can_not_reach_it_by_another_name(served, host):
    status, answer = served.call("/v1/models/caps", headers={"Host": host})
    assert (status, answer) == (400, {"error": "This server answers by the name localhost."})
    for good in ("localhost", "localhost:1", "127.0.0.1:8501", "[::1]:8501", "[::1]"):
        assert served.call("/v1/models/caps", headers={"Host": good})[0] == 200


# --- Limits ---------------------------------------------------------------------------------------


def in_background(served, body, answers, path=PREDICT):
    thread = threading.Thread(target=lambda: answers.append(served.call(path, body)))
    thread.start()
    return thread


def test_back_pressure_and_deadlines():
    model = Capitals()
    with server(Loaded({1: model}), queue_rows=2, seconds=0.5) as served:
        model.batches.clear()
        model.free.clear()
        answers = []
        busy = in_background(served, {"instances": ["busy"]}, answers)
        until(lambda: model.batches)
        waiting = in_background(served, {"instances": ["w", "w"]}, answers)
        until(lambda: served.metrics.queue_rows._value.get() == 2)
        status, answer = served.call(PREDICT, {"instances": ["more"]})
        assert (status, answer["error"][:17]) == (429, "The queue is full")
        busy.join()
        waiting.join()
        assert [status for status, _ in answers] == [504, 504]
        model.free.set()
        assert served.call(PREDICT, {"instances": ["later"]})[0] == 200


def test_too_many_requests_at_once_are_refused():
    model = Capitals()
    with server(Loaded({1: model}), requests=3) as served:
        model.free.clear()
        answers = []
        threads = [in_background(served, {"instances": ["busy"]}, answers)]
        until(lambda: model.batches[-1:] == [[b"busy"]])  # the others would go along with it
        threads += [in_background(served, {"instances": ["x"]}, answers) for _ in range(2)]
        until(lambda: served.metrics.queue_rows._value.get() == 2)
        status, answer = served.call(PREDICT, {"instances": ["x"]})
        assert (status, answer["error"][:17]) == (429, "Too many requests")
        model.free.set()
        for thread in threads:
            thread.join()
        assert [status for status, _ in answers] == [200] * 3


def test_a_client_that_leaves_frees_its_place():
    model = Capitals()
    with server(Loaded({1: model})) as served:
        model.free.clear()
        answers = []
        busy = in_background(served, {"instances": ["busy"]}, answers)
        until(lambda: model.batches[-1:] == [[b"busy"]])
        body = json.dumps({"instances": ["left"]}).encode()
        with socket.create_connection((served.at.host, served.at.rest_port)) as leaving:
            head = (
                f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            leaving.sendall(head.encode() + body)
            until(lambda: served.metrics.queue_rows._value.get() == 1)
        until(lambda: served.metrics.queue_rows._value.get() == 0)
        model.free.set()
        busy.join()
        assert served.call(PREDICT, {"instances": ["x"]})[0] == 200
        assert all(b"left" not in batch for batch in model.batches)


# --- Events, attention, page, health --------------------------------------------------------------


def events(text):
    """Read server-sent events."""
    parts = [part.split("\n") for part in text.split("\n\n") if part]
    return [(e.removeprefix("event: "), json.loads(d.removeprefix("data: "))) for e, d in parts]


def test_a_text_is_streamed_piece_by_piece(served):
    status, text = served.call("/v1/models/caps:stream", {"text": "abc"})
    assert status == 200
    assert events(text) == [
        ("start", {"draft": False}),
        ("piece", {"text": "2 A"}),
        ("piece", {"text": "B"}),
        ("piece", {"text": "C"}),
        ("end", {"hypotheses": [{"text": "2 ABC", "score": -0.5}], "truncated": False}),
    ]
    (_, end) = events(served.call("/v1/models/caps:stream", {"text": "a" * 30})[1])[-1]
    assert end["truncated"]
    assert len(events(served.call("/v1/models/caps:stream", {"text": ""})[1])) == 2


def test_pieces_come_when_they_are_written_and_stop_with_the_client():
    model = Capitals(seconds=0.05)
    with server(Loaded({1: model}), streams=1) as served:
        body = json.dumps({"text": "x" * 90}).encode()
        with socket.create_connection((served.at.host, served.at.rest_port)) as reader:
            since = time.monotonic()
            reader.sendall(head("/v1/models/caps:stream", len(body)) + body)
            got = b""
            while b"piece" not in got:
                got += reader.recv(1000)
            assert time.monotonic() - since < 2  # all of them take 4.5 seconds
            status, answer = served.call("/v1/models/caps:stream", {"text": "b"})
            assert (status, answer) == (429, {"error": "1 texts are streamed already; try later."})
        until(lambda: served.metrics.streams._value.get() == 0, 2)
        assert served.call("/v1/models/caps:stream", {"text": "b"})[0] == 200


def test_a_failure_in_the_middle_is_an_event():
    class Failing(Capitals):
        def _stream_step(self, rest, rows_done, n):
            if rest.item() == b"bad" and n == 1:
                raise RuntimeError("secret")
            return super()._stream_step(rest, rows_done, n)

    with server(Loaded({1: Failing()})) as served:
        names = events(served.call("/v1/models/caps:stream", {"text": "bad"})[1])
        assert names[-1] == ("error", {"error": "The model failed; the log has more."})
        assert [name for name, _ in names] == ["start", "piece", "error"]
        assert events(served.call("/v1/models/caps:stream", {"text": "good"})[1])[-1][0] == "end"


def test_attention_has_the_names_of_pieces(served):
    status, answer = served.call("/v1/models/caps:attention", {"text": "ab", "target": "xyz"})
    assert status == 200
    assert answer.pop("weights") == [[[[0.5, 0.5]] * 3] * 3] * 2
    assert answer == {
        "source_pieces": ["a", "b"],
        "target_pieces": ["x", "y", "z"],
        "layers": 2,
        "heads": 3,
    }


@pytest.mark.parametrize(
    ("path", "kind", "word"),
    [
        ("/", "text/html", "<html"),
        ("/page.css", "text/css", "{"),
        ("/page.js", "text/javascript", "fetch"),
        ("/icon.svg", "image/svg+xml", "<svg"),
    ],
)
def test_the_page_comes_with_a_policy(served, path, kind, word):
    connection = http.client.HTTPConnection(served.at.host, served.at.rest_port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.headers["Content-Type"].split(";")[0] == kind
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert word in answer.read().decode()
    connection.close()


def test_what_the_page_has_to_know(served):
    status, info = served.call("/info")
    assert status == 200
    assert (info["name"], info["version"], info["limits"]) == ("caps", "2", {"text_length": 100})
    assert "attention" in info["signatures"]


def test_health_and_metrics(served):
    assert served.call("/healthz") == (200, {"status": "ok"})
    assert served.call("/readyz") == (200, {"status": "ready"})
    served.call(PREDICT, {"instances": ["a"]})
    served.call(PREDICT, b"{")
    for path in ("/metrics", "/monitoring/prometheus/metrics"):
        status, text = served.call(path)
        assert status == 200
        name = "keras_transformer_requests_total"
        assert f'{name}{{code="OK",method="predict",protocol="rest"}}' in text
        assert f'{name}{{code="INVALID_ARGUMENT",method="predict",protocol="rest"}}' in text
        assert "keras_transformer_batch_rows_bucket" in text
        assert "keras_transformer_versions 2.0" in text


def test_what_was_asked_is_answered_before_the_server_ends():
    model = Capitals()
    with server(Loaded({1: model})) as served:
        model.free.clear()
        answers = []
        asked = in_background(served, {"instances": ["last"]}, answers)
        until(lambda: model.batches[-1:] == [[b"last"]])
        served.stop()
        time.sleep(0.2)
        assert served.thread.is_alive()
        with pytest.raises(OSError, match=r"refused|reset"):
            served.call("/v1/models/caps", timeout=2)
        model.free.set()
        asked.join()
        assert answers == [(200, {"predictions": [{"text": "LAST", "score": -4.0}]})]
        served.thread.join(10)
        assert not served.thread.is_alive()
