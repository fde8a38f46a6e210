"""Requests to the server, whatever protocol they came by."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_transformer._quiet import quiet_stderr
from keras_transformer.serving.limits import Limits
from keras_transformer.serving.metrics import Metrics
from keras_transformer.serving.versions import Model, ServedVersion

with quiet_stderr():
    import tensorflow as tf

from keras_transformer.artefacts.artefact import as_arrays
from keras_transformer.serving.batching import Batcher
from keras_transformer.serving.errors import RequestError
from keras_transformer.serving.log import log
from keras_transformer.serving.tensors import check_inputs

MAX_ATTENTION = 2_000_000  # numbers in an answer that shows attention
DEFAULT_SIGNATURE = "serving_default"


class Service:
    """One model, its queue and its limits.

    Args:
        model: The `Model`.
        limits: The server's `Limits`.
        metrics: The server's `Metrics`.
    """

    def __init__(self, model: Model, limits: Limits, metrics: Metrics) -> None:
        self.model = model
        self.limits = limits
        self.metrics = metrics
        metrics.versions.set_function(lambda: len(model.versions))
        self.batcher = Batcher(limits, metrics)
        self.closing = False
        self._requests = 0
        self._streams = 0
        self._pool = ThreadPoolExecutor(limits.streams, thread_name_prefix="stream")

    @property
    def ready(self) -> bool:
        """True if requests are answered."""
        return bool(self.model.versions) and not self.closing

    @contextlib.contextmanager
    def request(self, protocol: str, method: str) -> Iterator[None]:
        """Count a request, and turn what goes wrong in it into a `RequestError`."""
        since, code = time.perf_counter(), "OK"
        self._requests += 1
        try:
            if self._requests > self.limits.requests:
                raise RequestError("RESOURCE_EXHAUSTED", "Too many requests at once; try later.")
            if self.closing:
                raise RequestError("UNAVAILABLE", "The server is shutting down.")
            yield
        except RequestError as error:
            code = error.code
            raise
        except (asyncio.CancelledError, GeneratorExit):
            code = "CANCELLED"
            raise
        except Exception:
            code = "INTERNAL"
            log.exception("request failed", protocol=protocol, method=method)
            raise RequestError("INTERNAL", "The model failed; the log has more.") from None
        finally:
            seconds = time.perf_counter() - since
            self._requests -= 1
            self.metrics.requests.labels(protocol, method, code).inc()
            self.metrics.seconds.labels(protocol, method).observe(seconds)
            log.info(
                "request", protocol=protocol, method=method, code=code, ms=round(1e3 * seconds, 1)
            )

    def servable(
        self, name: str, version: int | None = None, label: str | None = None
    ) -> ServedVersion:
        """Return a version of the model by the names that a client uses.

        Raises:
            RequestError: If there is none.
        """
        if name != self.model.name:
            raise RequestError("NOT_FOUND", f"Servable not found for request: {name[:200]!r}.")
        return self.model.get(version, label)

    async def predict(
        self,
        servable: ServedVersion,
        signature: str,
        inputs: dict[str, np.ndarray],
        seconds: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Call a signature.

        Args:
            servable: The `ServedVersion`.
            signature: Name of one of its signatures.
            inputs: Arrays by name.
            seconds: How long the client waits; not longer than the server allows.

        Returns:
            The outputs, arrays by name.

        Raises:
            RequestError: If anything is wrong, or takes too long.
        """
        takes = servable.specs(signature)[0]
        rows = check_inputs(inputs, takes, self.limits)
        seconds = min(seconds or self.limits.seconds, self.limits.seconds)
        try:
            return await self.batcher.call(servable, signature, inputs, rows, seconds)
        except tf.errors.InvalidArgumentError:
            if all(spec.dtype == "string" for spec in takes.values()):
                raise  # any text is right, so that the model is wrong
            raise RequestError(
                "INVALID_ARGUMENT", "The model can't take these numbers, such as an id it lacks."
            ) from None

    async def stream(
        self, servable: ServedVersion, text: str
    ) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """Translate one text piece by piece.

        Yields:
            Events by name, with their data: `start`, any number of `piece`, and `end`.

        Raises:
            RequestError: As `predict`.
        """
        if "translate" not in servable.model.signatures:
            raise RequestError(
                "NOT_FOUND",
                "This model writes no text. Ask it by :predict; its signatures are "
                f"{', '.join(sorted(servable.model.signatures))}.",
            )
        inputs = as_arrays({"text": [text]})
        check_inputs(inputs, servable.specs("translate")[0], self.limits)
        if self._streams >= self.limits.streams:
            raise RequestError(
                "RESOURCE_EXHAUSTED", f"{self._streams} texts are streamed already; try later."
            )
        model: Any = servable.model
        streams, drafts = (f"{x}_start" in model.signatures for x in ("stream", "draft"))
        self._change_streams(1)
        try:
            yield "start", {"draft": drafts}
            if streams or drafts:
                pieces = model.stream(text) if streams else model.draft(text)
                async for piece in self._pieces(pieces):
                    yield "piece", {"text": piece}
            outputs = await self.predict(servable, "translate", inputs)
            cut = (await self.predict(servable, "tokenize", inputs))["truncated"]
            texts, scores = outputs["text"][0], outputs["score"][0]
            hypotheses = [
                {"text": one.decode("utf-8", "replace"), "score": round(float(score), 6)}
                for one, score in zip(texts, scores, strict=True)
                if np.isfinite(score)
            ]
            yield "end", {"hypotheses": hypotheses, "truncated": bool(cut[0])}
        finally:
            self._change_streams(-1)

    def _change_streams(self, by: int) -> None:
        self._streams += by
        self.metrics.streams.set(self._streams)

    async def _pieces(self, pieces: Iterator[str]) -> AsyncIterator[str]:
        """Take pieces from a generator that runs in a thread, until nobody wants them."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.limits.seconds
        end: Any = object()
        while (piece := await loop.run_in_executor(self._pool, next, pieces, end)) is not end:
            if loop.time() > until:
                raise RequestError("DEADLINE_EXCEEDED", "The text took too long.")
            yield piece

    async def attention(self, servable: ServedVersion, text: str, target: str) -> dict[str, Any]:
        """Show which source pieces each target piece attends to, in every head of every block."""
        inputs = as_arrays({"text": [text], "target": [target]})
        if "attention" not in servable.model.signatures:
            raise RequestError("NOT_FOUND", "This model shows no attention.")
        outputs = await self.predict(servable, "attention", inputs)
        weights = outputs["weights"][0]  # (L, H, T, S)
        if weights.size > MAX_ATTENTION:
            raise RequestError("INVALID_ARGUMENT", "The texts are too long to show attention.")
        names = servable.model.vocabulary
        return {
            "source_pieces": [names[i] for i in outputs["source_ids"][0]],
            "target_pieces": [names[i] for i in outputs["target_ids"][0]],
            "layers": weights.shape[0],
            "heads": weights.shape[1],
            "weights": weights.astype(float).round(4).tolist(),
        }

    async def close(self) -> None:
        """Stop."""
        await self.batcher.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.model.close()
