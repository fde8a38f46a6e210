"""A client of TensorFlow Serving, and of the local server, by REST or gRPC.

The REST half needs no TensorFlow.
"""

import asyncio
import dataclasses
import functools
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self
from urllib.parse import urlsplit

from keras_transformer.errors import InputError
from keras_transformer.serving.errors import ServerError
from keras_transformer.serving.transports import TRANSPORTS

__all__ = ["AsyncClient", "Client", "Hypothesis", "ServerError"]

RETRIED = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")  # a text that was not translated may be sent again
FIRST_PAUSE = 0.05  # seconds, doubled at each retry
LONGEST_PAUSE = 2.0
# Of an answer to no texts.
_OUTPUTS = {
    "serving_default": ("text", "score"),
    "translate": ("text", "score"),
    "complete": ("text", "score"),
    "score": ("score", "tokens", "truncated"),
    "tokenize": ("ids", "truncated"),
}


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """A target and its score."""

    text: str
    score: float


class Client:
    """Asks a server for translations.

    Args:
        address: `http://host:8501` for REST, `https` too, or `grpc://host:8500`.
        model: The model's name.
        version: Its version; the server's newest if None.
        label: A label of a version, such as `stable`, instead.
        timeout: Seconds until a call is given up, retries included.
        batch_size: Most texts in one request.
        concurrency: Requests that are under way at once.

    Raises:
        InputError: If the address is none, or a version and a label are given.

    Example:
        with kt.export.Client("http://localhost:8501", "en-de") as client:
            client.wait_until_ready()
            client.translate(["Two young men."])[0].text
    """

    def __init__(
        self,
        address: str,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 30.0,
        batch_size: int = 32,
        concurrency: int = 4,
    ) -> None:
        if version is not None and label is not None:
            raise InputError("Give a version or a label, not both.")
        scheme = urlsplit(address).scheme
        if scheme not in TRANSPORTS or not urlsplit(address).netloc:
            raise InputError(
                f"{address!r} is not an address; give http://host:port or grpc://host:port."
            )
        self.timeout = timeout
        self.batch_size = batch_size
        self._transport = TRANSPORTS[scheme](address, model, version, label)
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="client")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._pool.shutdown(wait=True)
        self._transport.close()

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Wait until the server is there and has the version.

        Raises:
            ServerError: If it is not ready in time.
        """
        until = time.monotonic() + timeout
        while True:
            try:
                status = self._transport.status(min(5.0, timeout))
                if any(state == "AVAILABLE" for state in status.values()):
                    return
                error = ServerError("UNAVAILABLE", f"The model's versions are {status}.")
            except ServerError as caught:
                error = caught
            if time.monotonic() > until:
                raise error
            time.sleep(0.1)

    def status(self) -> dict[int, str]:
        """Return the state of each version, such as `AVAILABLE`."""
        return self._retry(self._transport.status)

    def predict(self, signature: str, **inputs: Any) -> dict[str, Any]:
        """Call a signature.

        Args:
            signature: Its name, such as `translate`.
            inputs: Its inputs by name: lists with a value for each row.

        Returns:
            Its outputs by name, as nested lists; strings as `str`.

        Raises:
            ServerError: If the server refuses, or is not there in time.
        """
        return self._retry(functools.partial(self._transport.predict, signature, inputs))

    def translate(self, texts: Sequence[str]) -> list[Hypothesis]:
        """Translate texts; the best of each."""
        outputs = self._in_batches("serving_default", text=texts)
        return [Hypothesis(*row) for row in zip(outputs["text"], outputs["score"], strict=True)]

    def n_best(self, texts: Sequence[str]) -> list[list[Hypothesis]]:
        """Translate texts; as many of each as the export gives, best first."""
        return self._hypotheses("translate", text=texts)

    def complete(self, texts: Sequence[str], prefixes: Sequence[str]) -> list[list[Hypothesis]]:
        """Translate texts to targets that begin as asked."""
        return self._hypotheses("complete", text=texts, prefix=prefixes)

    def score(self, texts: Sequence[str], targets: Sequence[str]) -> list[float]:
        """Return the log-probabilities of given targets."""
        return self._in_batches("score", text=texts, target=targets)["score"]

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Cut texts into the ids of their pieces."""
        rows = self._in_batches("tokenize", text=texts)["ids"]
        return [[number for number in row if number] for row in rows]

    def _hypotheses(self, signature: str, **inputs: Sequence[str]) -> list[list[Hypothesis]]:
        """Ask for the n best, and leave out places for which there is none."""
        outputs = self._in_batches(signature, **inputs)
        return [
            [Hypothesis(*one) for one in zip(some, scores, strict=True) if one[1] > -1e38]
            for some, scores in zip(outputs["text"], outputs["score"], strict=True)
        ]

    def _in_batches(self, signature: str, **inputs: Sequence[str]) -> dict[str, list[Any]]:
        """Send many rows in several requests at once, and put the answers in order."""
        count = len(next(iter(inputs.values())))
        if any(len(values) != count for values in inputs.values()):
            raise InputError(f"All of {', '.join(inputs)} need the same number of texts.")
        parts = [
            {name: list(values[i : i + self.batch_size]) for name, values in inputs.items()}
            for i in range(0, count, self.batch_size)
        ]
        answers = list(self._pool.map(lambda part: self.predict(signature, **part), parts))
        names = answers[0] if answers else _OUTPUTS[signature]
        return {name: [row for answer in answers for row in answer[name]] for name in names}

    def _retry(self, call: Callable[[float], Any]) -> Any:
        """Call with the seconds that are left, again while the server is not there."""
        until = time.monotonic() + self.timeout
        pause = FIRST_PAUSE
        while True:
            left = until - time.monotonic()
            try:
                return call(max(left, 0.001))
            except ServerError as error:
                # Not all at once: those who were refused together come back one by one.
                rest = pause * random.uniform(0.5, 1.5)
                if error.code not in RETRIED or time.monotonic() + rest > until:
                    raise
            time.sleep(rest)
            pause = min(2 * pause, LONGEST_PAUSE)


class AsyncClient:
    """The same for asyncio: every method of `Client` as a coroutine.

    Args:
        address: As for `Client`, like all the rest.

    Example:
        async with kt.export.AsyncClient("grpc://localhost:8500", "en-de") as client:
            await asyncio.gather(*(client.translate([text]) for text in texts))
    """

    def __init__(self, address: str, model: str, *, concurrency: int = 32, **options: Any) -> None:
        self._client = Client(address, model, **options)
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="async-client")

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name.startswith("_") or not callable(method):
            return method

        @functools.wraps(method)
        async def call(*args: Any, **kwargs: Any) -> Any:
            run = functools.partial(method, *args, **kwargs)
            return await asyncio.get_running_loop().run_in_executor(self._threads, run)

        return call

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, self._client.close)
        self._threads.shutdown(wait=False)
