"""Dynamic batching: rows of different requests go through the model together.

While the model runs, what arrives waits; then as much of it as fits is the next batch. Nothing
waits without bound: the queue has a length, and every request a deadline.
"""

import asyncio
import dataclasses
import functools
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_transformer.serving.errors import RequestError
from keras_transformer.serving.limits import Limits
from keras_transformer.serving.metrics import Metrics
from keras_transformer.serving.versions import ServedVersion

# Batches are filled up to one of these with empty rows, which end at once: kernels are made, or
# compiled, for every new number of rows.
BATCH_SIZES = (1, 2, 4, 8, 16, 24, 32)
WAIT_SECONDS = 0.002  # for others to join, when the last batch was of several requests


@dataclasses.dataclass(eq=False)
class _Job:
    """A request that waits for its rows."""

    servable: ServedVersion
    signature: str
    inputs: dict[str, np.ndarray]
    rows: int
    result: asyncio.Future[Any]
    taken: int = 0  # rows that have been put into a batch
    parts: list[Any] = dataclasses.field(default_factory=list)

    @property
    def left(self) -> int:
        return self.rows - self.taken

    @property
    def batched(self) -> bool:
        return self.servable.is_batched(self.signature)

    def goes_with(self, other: "_Job") -> bool:
        same = self.servable is other.servable and self.signature == other.signature
        return same and self.batched


class Batcher:
    """Calls models with rows of many requests at once, one batch after the other.

    Args:
        limits: The server's `Limits`.
        metrics: The server's `Metrics`.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits = limits
        self.metrics = metrics
        self._jobs: deque[_Job] = deque()
        self._queued = 0  # rows
        self._arrived = asyncio.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._crowded = False
        self._worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take requests."""
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Finish nothing more."""
        if self._worker:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        self._pool.shutdown(wait=True)

    async def call(
        self,
        servable: ServedVersion,
        signature: str,
        inputs: dict[str, np.ndarray],
        rows: int,
        seconds: float,
    ) -> dict[str, np.ndarray]:
        """Call a signature with the rows of one request.

        Args:
            servable: A `ServedVersion`.
            signature: One of its signatures.
            inputs: Arrays by name.
            rows: Their number of rows.
            seconds: How long the caller waits.

        Returns:
            The outputs, arrays by name.

        Raises:
            RequestError: If the queue is full, or time is up.
        """
        if self._queued + rows > self.limits.queue_rows:
            raise RequestError(
                "RESOURCE_EXHAUSTED",
                f"The queue is full: {self._queued} rows wait. Try again later.",
            )
        result = asyncio.get_running_loop().create_future()
        job = _Job(servable, signature, inputs, rows, result)
        self._jobs.append(job)
        self._change(rows)
        self._arrived.set()
        try:
            return await asyncio.wait_for(job.result, seconds)
        except TimeoutError:
            raise RequestError(
                "DEADLINE_EXCEEDED", f"The model was not done within {seconds:g} seconds."
            ) from None
        finally:
            if job.left and job in self._jobs:  # given up before its turn
                self._jobs.remove(job)
                self._change(-job.left)

    def _change(self, rows: int) -> None:
        self._queued += rows
        self.metrics.queue_rows.set(self._queued)

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            if self._crowded and self._queued < self.limits.batch_size:
                await asyncio.sleep(WAIT_SECONDS)
            batch = self._next_batch()
            if not batch:
                self._arrived.clear()
                continue
            self._crowded = len(batch) > 1
            self.metrics.batch_rows.observe(sum(stop - start for _, start, stop in batch))
            await self._run(batch)

    def _next_batch(self) -> list[tuple[_Job, int, int]]:
        """Take rows from the front of the queue, as many as fit, of one model and signature.

        A request may have no rows at all, and is a batch then.
        """
        batch: list[tuple[_Job, int, int]] = []
        room, others = self.limits.batch_size, []
        while self._jobs and room > 0:
            job = self._jobs.popleft()
            if batch and not job.goes_with(batch[0][0]):
                others.append(job)
                continue
            # What can't be batched goes through whole and alone.
            count = min(job.left, room) if job.batched else job.left
            batch.append((job, job.taken, job.taken + count))
            job.taken += count
            room -= count
            self._change(-count)
            if job.left:  # a long request goes on behind those that are waiting
                self._jobs.append(job)
                break
            if not job.batched:
                break
        self._jobs.extendleft(reversed(others))
        return batch

    async def _run(self, batch: list[tuple[_Job, int, int]]) -> None:
        first = batch[0][0]
        inputs = first.inputs
        if first.batched:
            parts = [{n: x[start:stop] for n, x in j.inputs.items()} for j, start, stop in batch]
            inputs = {name: _fill_up(array) for name, array in _joined(parts).items()}
        loop = asyncio.get_running_loop()
        try:
            outputs = await loop.run_in_executor(
                self._pool, functools.partial(first.servable.model.call, first.signature, **inputs)
            )
        except Exception as error:
            if len(batch) == 1:
                if not first.result.done():
                    first.result.set_exception(error)
                return
            for one in batch:  # only those that make the model fail are to see it
                await self._run([one])
            return
        begin = 0
        for job, start, stop in batch:
            rows = slice(begin, begin + stop - start)
            begin = rows.stop
            job.parts.append({n: x[rows] for n, x in outputs.items()} if job.batched else outputs)
            if not job.left and not job.result.done():
                job.result.set_result(_joined(job.parts))


def _fill_up(array: np.ndarray) -> np.ndarray:
    rows = len(array)
    size = next((size for size in BATCH_SIZES if size >= rows), rows)
    empty = b"" if array.dtype == object else 0
    return np.concatenate([array, np.full((size - rows, *array.shape[1:]), empty, array.dtype)])


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
