"""The server as a process, and clients that load it: many at once, each with texts of its own."""

import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

COMMAND = (sys.executable, "-m", "keras_transformer", "serve")
TIMEOUT = 60.0  # seconds
SCORE_TOLERANCE = 1e-3  # sums in batches of other sizes round differently
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """The command `keras-transformer serve` as a process, told to end at the end of the block.

    Args:
        model: What is served.
        options: More of the command's options.
        rest_port: Port, 0 for a free one.
        grpc_port: Likewise.
    """

    def __init__(self, model, *options, name="demo", rest_port=0, grpc_port=0):
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (it lives as long as we do)
        ports = f"--rest-port={rest_port}", f"--grpc-port={grpc_port}"
        self._child = subprocess.Popen(
            [*COMMAND, f"--model={model}", f"--name={name}", *ports, *options], stderr=self._errors
        )
        self.pid = self._child.pid
        self.rest = self.grpc = ""

    def __enter__(self):
        try:
            return self.wait_until_ready()
        except BaseException:
            self.kill()
            raise

    def __exit__(self, *error):
        if self._child.poll() is None:
            self.end()
        self._errors.close()

    def wait_until_ready(self):
        """Wait until it says where it listens."""
        end = time.monotonic() + TIMEOUT
        while not (found := re.search(r"served at (\S+) .* and (\S+)", self.errors())):
            if self._child.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"The server did not start: {self.errors()}")
            time.sleep(0.05)
        self.rest, self.grpc = found.groups()
        return self

    @property
    def ports(self):
        """Its two ports, as options of another one in its place."""
        return {"rest_port": urlsplit(self.rest).port, "grpc_port": urlsplit(self.grpc).port}

    def errors(self):
        """Return what it wrote to standard error so far."""
        return Path(f"/proc/self/fd/{self._errors.fileno()}").read_text("utf-8")

    def end(self):
        """Tell it to end, by SIGTERM, and return its status."""
        self._child.send_signal(signal.SIGTERM)
        return self._child.wait(TIMEOUT)

    def kill(self):
        """End it as `kill -9` does."""
        self._child.kill()
        return self._child.wait(TIMEOUT)

    def memory(self):
        """Return its resident memory in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s*(\d+)", status)[1]) / 1024

    def processor_seconds(self):
        """Return the seconds that it has used the processors."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")")[-1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def versions(self):
        """Return the versions that it has loaded so far."""
        found = re.findall(r'"version": (\d+), .*"version loaded"', self.errors())
        return [int(number) for number in found]


# --- Clients: `ask` returns a text and its score, `leave` goes away in the middle -----------------


class RestClient:
    """Asks by REST on one connection, with as little work as can be."""

    def __init__(self, server):
        at = urlsplit(server.rest)
        self._address = at.hostname, at.port
        self._path = f"/v1/models/{server.name}:predict"
        self._socket = None

    def ask(self, text):
        """Return the answer to a text."""
        try:
            self._connect().sendall(self._request(text))
            status, body = self._answer()
        except BaseException:
            self.close()
            raise
        if status != 200:
            raise RuntimeError(f"{status}: {body.decode()}")
        (row,) = json.loads(body)["predictions"]
        return row["text"], row["score"]

    def leave(self, text, seconds):
        """Send a part of a request, or all of it, and be gone a little later."""
        request = self._request(text)
        self._connect().sendall(request[: random.randint(1, len(request) * 2)])
        time.sleep(seconds)
        self.close()

    def close(self):
        """Close the connection; the next request opens another."""
        if self._socket:
            self._file.close()
            self._socket.close()
            self._socket = None

    def _connect(self):
        if not self._socket:
            self._socket = socket.create_connection(self._address, TIMEOUT)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._file = self._socket.makefile("rb")
        return self._socket

    def _request(self, text):
        body = json.dumps({"instances": [text]}).encode()
        head = f"POST {self._path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
        return f"{head}\r\n\r\n".encode() + body

    def _answer(self):
        status = self._file.readline().split()
        if not status:
            raise ConnectionError("The server closed the connection.")
        length = 0
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return int(status[1]), self._file.read(length)


class GrpcClient:
    """Asks by gRPC on a connection of its own."""

    def __init__(self, server):
        import grpc
        from tensorflow_serving.apis import predict_pb2

        self._name, self._protos = server.name, predict_pb2
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(urlsplit(server.grpc).netloc, options)
        self._predict = self._channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            predict_pb2.PredictRequest.SerializeToString,
            predict_pb2.PredictResponse.FromString,
        )

    def ask(self, text):
        """Return the answer to a text."""
        answer = self._predict(self._request(text), timeout=TIMEOUT).outputs
        return answer["text"].string_val[0].decode(), answer["score"].float_val[0]

    def leave(self, text, seconds):
        """Send a request and be gone a little later."""
        call = self._predict.future(self._request(text), timeout=TIMEOUT)
        time.sleep(seconds)
        call.cancel()

    def close(self):
        """Close the connection."""
        self._channel.close()

    def _request(self, text):
        request = self._protos.PredictRequest()
        request.model_spec.name = self._name
        tensor = request.inputs["text"]
        tensor.dtype = 7  # DT_STRING
        tensor.tensor_shape.dim.add().size = 1
        tensor.string_val.append(text.encode())
        return request


class RetryingClient:
    """The package's client, which asks again while the server is away."""

    def __init__(self, address, model):
        from keras_transformer.serving.client import Client

        self._client = Client(address, model, timeout=TIMEOUT)

    def ask(self, text):
        """Return the answer to a text."""
        (best,) = self._client.translate([text])
        return best.text, best.score

    def close(self):
        """Close the connections."""
        self._client.close()


# --- Load -----------------------------------------------------------------------------------------


class Load:
    """What came of many requests.

    Attributes:
        seconds: How long each answer took.
        wrong: Texts with an answer that is not theirs, and that answer.
        lost: Texts without an answer, and why.
        left: Texts whose requests were left in the middle.
        wall: Seconds in all.
        share: Part of one processor that the clients took.
    """

    def __init__(self):
        self.seconds, self.wrong, self.lost, self.left = [], [], [], []
        self.wall = self.share = 0.0

    def __str__(self):
        return f"{len(self.seconds)} answers, {len(self.wrong)} wrong, {len(self.lost)} lost"

    @property
    def rate(self):
        """Answers a second."""
        return len(self.seconds) / self.wall

    def percentile(self, percent):
        """Return how many milliseconds that part of the answers took at most."""
        return 1e3 * sorted(self.seconds)[int(len(self.seconds) * percent / 100)]


def apply_load(clients, expected, leaving=(), go_on=lambda: False):
    """Let every client ask for its part of the texts, one after the other, and check the answers.

    Args:
        clients: The clients. No two of them ever ask for the same text.
        expected: The text and the score that belong to each text.
        leaving: Those of the clients that go away in the middle of every request, and then come
            back for it.
        go_on: Says whether all of them are to begin again once they are through.

    Returns:
        A `Load`.
    """
    load, texts = Load(), list(expected)

    def work(index, client):
        mine = texts[index :: len(clients)]
        rng = random.Random(index)
        for turn in itertools.count():
            if turn and not go_on():
                return
            for text in mine:
                since = time.perf_counter()
                try:
                    if client in leaving:
                        client.leave(text, rng.uniform(0, 0.02))
                        load.left.append(text)
                        since = time.perf_counter()
                    answer = client.ask(text)
                except Exception as error:
                    load.lost.append((text, repr(error)))
                    continue
                load.seconds.append(time.perf_counter() - since)
                wanted = expected[text]
                if answer[0] != wanted[0] or abs(answer[1] - wanted[1]) > SCORE_TOLERANCE:
                    load.wrong.append((text, wanted, answer))

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(clients)]
    since, used = time.perf_counter(), _own_processor_seconds()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.wall = time.perf_counter() - since
    load.share = (_own_processor_seconds() - used) / load.wall
    for client in clients:
        client.close()
    return load


def _own_processor_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def publish_copy(base, version="1"):
    """Publish a copy of a version as the next one, whole as soon as it is there."""
    from keras_transformer.export.folder import publish

    with tempfile.TemporaryDirectory(dir=base.parent) as scratch:
        new = Path(scratch) / "new"
        shutil.copytree(base / version, new)
        return publish(new, base)


def expected_of(model, texts, rows=32):
    """Return what a model makes of texts, by text."""
    found, texts = {}, sorted(texts, key=len)
    for i in range(0, len(texts), rows):
        some = texts[i : i + rows]
        outputs = model.call("serving_default", text=some)
        answers = [text.decode("utf-8", "replace") for text in outputs["text"]]
        found.update(zip(some, zip(answers, outputs["score"].tolist(), strict=True), strict=True))
    return found
