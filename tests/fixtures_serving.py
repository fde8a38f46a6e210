"""A local server inside the test's own process, and a model whose answers are known beforehand."""

import asyncio
import contextlib
import json
import threading
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import numpy as np

from keras_transformer.artefacts.artefact import Spec, as_arrays
from keras_transformer.artefacts.text_to_text import STREAMING, TextToText
from keras_transformer.serving import log
from keras_transformer.serving.limits import Limits
from keras_transformer.serving.metrics import Metrics
from keras_transformer.serving.server import Address, running
from keras_transformer.serving.versions import Model

STRINGS, NUMBERS = Spec("string", (None,)), Spec("float32", (None,))
BEST = {"text": Spec("string", (None, 2)), "score": Spec("float32", (None, 2))}
WEIGHTS = Spec("float32", (None, None, None, None, None))
IDS = Spec("int32", (None, None))


class Capitals(TextToText):
    """Writes texts in capitals; it takes as long as asked, and remembers what it was given.

    Args:
        seconds: How long each call takes.
        mark: What each text begins with, to tell versions apart.
    """

    signatures = frozenset(
        ("serving_default", "translate", "score", "tokenize", "attention", *STREAMING[:2])
    )

    def __init__(self, seconds=0.0, mark=""):
        self.seconds = seconds
        self.mark = mark
        self.batches = []  # of serving_default
        self.free = threading.Event()  # cleared: calls wait
        self.free.set()

    vocabulary = ("[PAD]", "[UNK]", "[BOS]", "[EOS]", *(chr(i) for i in range(4, 256)))

    def specs(self, signature):
        pair = {"text": STRINGS, "target": STRINGS}
        return {
            "serving_default": ({"text": STRINGS}, {"text": STRINGS, "score": NUMBERS}),
            "translate": ({"text": STRINGS}, BEST),
            "score": (pair, {"score": NUMBERS, "tokens": Spec("int32", (None,))}),
            "tokenize": ({"text": STRINGS}, {"ids": IDS, "truncated": Spec("bool", (None,))}),
            "attention": (pair, {"source_ids": IDS, "target_ids": IDS, "weights": WEIGHTS}),
            "stream_start": ({"text": STRINGS}, {"rest": Spec("string", ())}),
            "stream_step": ({"rest": Spec("string", ())}, {"text": STRINGS}),
        }[signature]

    def call(self, signature, **inputs):
        return getattr(self, f"_{signature}")(**as_arrays(inputs))

    def _serving_default(self, text):
        self.batches.append(list(text))
        self.free.wait(10)
        time.sleep(self.seconds)
        if b"explode" in list(text):
            raise RuntimeError("secret of /the/machine")
        return {"text": self._capitals(text), "score": np.array([-len(x) for x in text], "f4")}

    def _capitals(self, text):
        return np.array([self.mark.encode() + x.upper() for x in text], dtype=object)

    def _translate(self, text):
        best = self._capitals(text)
        texts = np.stack([best, np.full(best.shape, b"second", object)], axis=1)
        return {"text": texts, "score": np.tile(np.array([-0.5, -np.inf], "f4"), (len(best), 1))}

    def _score(self, text, target):
        counts = np.array([len(x) for x in target], "i4")
        return {"score": -counts.astype("f4"), "tokens": counts}

    def _tokenize(self, text):
        ids = np.zeros((len(text), max(map(len, text), default=0)), "i4")
        for i, one in enumerate(text):
            ids[i, : len(one)] = list(one)
        return {"ids": ids, "truncated": np.array([len(x) > 20 for x in text])}

    def _attention(self, text, target):
        sides = [self._tokenize([x[0]])["ids"] for x in (text, target)]
        shape = (1, 2, 3, sides[1].shape[1], sides[0].shape[1])
        weights = np.full(shape, 1 / max(shape[-1], 1), "f4")
        return {"source_ids": sides[0], "target_ids": sides[1], "weights": weights}

    def _stream_start(self, text):
        return {"rest": np.array(text[0]), "rows_done": np.array([not text[0]]), "n": np.array(0)}

    def _stream_step(self, rest, rows_done, n):
        time.sleep(self.seconds)
        whole, n = rest.item(), int(n) + 1
        written = np.array([self.mark.encode() + whole[:n].upper()], dtype=object)
        return {"text": written, "rows_done": np.array([n >= len(whole)]), "n": np.array(n)}


class Loaded(Model):
    """A `Model` whose versions are made by hand, and not read from a folder."""

    def __init__(self, versions, name="caps", **options):
        super().__init__(name, "nowhere", **options)
        self.made = dict(versions)
        self._load = lambda found: self.made[found]
        self._look = lambda found: found

    def scan(self):
        wanted = set(sorted(self.made)[-self._keep :]) | set(self.labels.values())
        return {number: number for number in sorted(wanted & set(self.made))}


@contextlib.contextmanager
def server(model, poll_seconds=0.05, **limits):
    """Serve a model in a thread; `call` asks it by REST."""
    log.set_up()
    limits, metrics = Limits(**limits), Metrics()
    started, stopping = threading.Event(), []
    found = SimpleNamespace(model=model, metrics=metrics, limits=limits, error=None)

    async def serve():
        told = asyncio.Event()
        stopping.append((asyncio.get_running_loop(), told))
        address = Address(rest_port=0, grpc_port=0)
        async with running(model, address, limits, poll_seconds, metrics) as at:
            found.at = at
            started.set()
            await told.wait()

    def run():
        try:
            asyncio.run(serve())
        except BaseException as error:  # shown by the test that waits
            found.error = error
            started.set()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait(60)
    if found.error:
        thread.join()
        raise found.error
    found.call = lambda *args, **kwargs: call(found.at.rest, *args, **kwargs)
    found.stop = lambda: stopping[0][0].call_soon_threadsafe(stopping[0][1].set)
    found.thread = thread
    try:
        yield found
    finally:
        with contextlib.suppress(RuntimeError):  # it has been stopped
            found.stop()
        thread.join(30)
    assert not thread.is_alive()


def call(address, path, body=None, method=None, headers=None, timeout=30):
    """Ask by HTTP: returns the status and the JSON, or the text if it is none."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, _read(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _read(error)


def _read(answer):
    content = answer.read().decode()
    if "json" in answer.headers.get("content-type", ""):
        return json.loads(content)
    return content


def until(condition, seconds=10):
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never held"
        time.sleep(0.005)
