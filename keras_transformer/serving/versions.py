"""The versions of a model: loaded, warmed up, put in place, and let go of when newer ones come.

A request holds the version that it began with, so a version that is replaced still answers what it
was asked; then nothing refers to it any more.
"""

import asyncio
import dataclasses
import gc
import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from keras_transformer.artefacts.artefact import PICTURE, SMALLEST_PICTURE, Artefact, Spec
from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.errors import InputError
from keras_transformer.export.folder import saved_model_versions
from keras_transformer.export.runtime import load
from keras_transformer.serving.errors import RequestError
from keras_transformer.serving.log import log


class ServedVersion:
    """One version of a model that can be called.

    Args:
        version: Its number.
        model: What has signatures.
    """

    def __init__(self, version: int, model: Artefact) -> None:
        self.version = version
        self.model = model
        self._specs: dict[str, tuple[dict[str, Spec], dict[str, Spec]]] = {}

    def specs(self, signature: str) -> tuple[dict[str, Spec], dict[str, Spec]]:
        """Return what a signature takes and gives.

        Raises:
            RequestError: If there is no such signature.
        """
        if signature not in self.model.signatures:
            raise RequestError(
                "INVALID_ARGUMENT",
                f"Serving signature name: {signature!r} not found in signature def; there are "
                f"{', '.join(sorted(self.model.signatures))}.",
            )
        if signature not in self._specs:
            self._specs[signature] = self.model.specs(signature)
        return self._specs[signature]

    def is_batched(self, signature: str) -> bool:
        """Return whether only the number of rows varies, so that rows are independent."""
        specs = [spec for side in self.specs(signature) for spec in side.values()]
        return all(spec.shape[:1] == (None,) and None not in spec.shape[1:] for spec in specs)

    def prepare(self) -> None:
        """Call everything once that requests will call, so that none of them waits for it."""
        for signature in sorted(self.model.signatures):
            takes = self.specs(signature)[0]
            if self.is_batched(signature):
                self.model.call(signature, **{n: _one_row(n, spec) for n, spec in takes.items()})
        for kind in ("stream", "draft"):  # which what writes text has
            if f"{kind}_start" in self.model.signatures:
                list(getattr(self.model, kind)("a"))
        for signature, texts in self.model.warmup():
            self.model.call(signature, text=texts)


def _one_row(name: str, spec: Spec) -> Any:
    """Return the smallest input that a model can take."""
    if spec.dtype == "string":
        return [SMALLEST_PICTURE if name == PICTURE else "a"]
    return np.zeros([1, *spec.shape[1:]], spec.dtype)


@dataclasses.dataclass
class Status:
    """The state of a version, in TensorFlow Serving's words."""

    state: str
    error: str = ""


class Model:
    """A model by name, of which several versions may be loaded.

    Args:
        name: Its name.
        path: A run, a SavedModel, the folder of its versions, or a `.tflite`.
        options: `GenerationOptions` of a run.
        jit_compile: Whether XLA compiles a run.
        keep: How many of the newest versions are loaded.
        labels: Versions by label.
    """

    def __init__(
        self,
        name: str,
        path: Path | str,
        options: GenerationOptions | None = None,
        jit_compile: bool = False,
        keep: int = 1,
        labels: Mapping[str, int] | Iterable[tuple[str, int]] = (),
    ) -> None:
        self.name = name
        self.path = Path(path)
        self.statuses: dict[int, Status] = {}
        self.labels: dict[str, int] = dict(labels)
        self._load: Callable[[Path], Artefact] = lambda found: load(found, options, jit_compile)
        self._keep = keep
        self._loaded: dict[int, ServedVersion] = {}
        self._failed: dict[int, tuple[Any, ...]] = {}  # how each looked that can't be loaded
        self._seen: tuple[Any, ...] = ()
        self._number = 0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="loader")

    @property
    def versions(self) -> list[int]:
        """The versions that can be called, oldest first."""
        return sorted(self._loaded)

    def get(self, version: int | None = None, label: str | None = None) -> ServedVersion:
        """Return a version; the newest if none is named.

        Raises:
            RequestError: If it is not there.
        """
        if label is not None:
            if label not in self.labels:
                raise RequestError(
                    "NOT_FOUND", f"Servable not found: {self.name} has no label {label!r}."
                )
            version = self.labels[label]
        loaded = self._loaded
        if version is None and loaded:
            return loaded[max(loaded)]
        if version not in loaded:
            wanted = "version that is loaded" if version is None else f"version {version}"
            raise RequestError(
                "NOT_FOUND", f"Servable not found for request: {self.name} has no {wanted}."
            )
        return loaded[version]

    def scan(self) -> dict[int, Path]:
        """Return the versions on disk that are to be served, by number."""
        found = saved_model_versions(self.path)
        if found:
            newest = sorted(found)[-self._keep :]
            wanted = set(newest) | (set(self.labels.values()) & set(found))
            return {number: found[number] for number in sorted(wanted)}
        seen = self._look(self.path)
        if seen != self._seen:  # a run or a .tflite that was written anew is the next version
            self._seen = seen
            self._number += 1
        return {self._number: self.path}

    async def update(self) -> None:
        """Load what is new, and let go of what is no longer wanted."""
        try:
            wanted = self.scan()
        except OSError:  # it is being moved at this moment
            return
        loop = asyncio.get_running_loop()
        for number, path in wanted.items():
            if number in self._loaded or self._failed.get(number) == self._look(path):
                continue
            self.statuses[number] = Status("LOADING")
            since = time.perf_counter()
            try:
                servable = await loop.run_in_executor(self._pool, self._make, number, path)
            except Exception as error:  # a damaged version does not stop those that work
                self._failed[number] = self._look(path)
                self.statuses[number] = Status("END", "The version can't be loaded.")
                log.error("version failed", model=self.name, version=number, error=str(error))
                if not isinstance(error, InputError):
                    log.exception("unexpected")
                continue
            self._loaded = {**self._loaded, number: servable}
            self.statuses[number] = Status("AVAILABLE")
            self._note("loaded", number, seconds=round(time.perf_counter() - since, 2))
        if any(number in self._loaded for number in wanted):
            for number in set(self._loaded) - set(wanted):
                self._loaded = {n: s for n, s in self._loaded.items() if n != number}
                self.statuses[number] = Status("END")
                self._note("unloaded", number)
                await loop.run_in_executor(self._pool, gc.collect)  # graphs refer to themselves

    def _make(self, number: int, path: Path) -> ServedVersion:
        servable = ServedVersion(number, self._load(path))
        servable.prepare()
        return servable

    def _note(self, event: str, number: int, **more: Any) -> None:
        log.info(f"version {event}", model=self.name, version=number, **more)

    async def watch(self, seconds: float) -> None:
        """Look for new versions again and again."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.update()
            except Exception:  # what works goes on
                log.exception("looking for versions failed", model=self.name)

    def close(self) -> None:
        """Stop loading."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    def _look(path: Path) -> tuple[Any, ...]:
        """Return what tells one state of a model on disk from another."""
        files = [path] if path.is_file() else [path / "best.weights.h5", path / "saved_model.pb"]
        stats = [os.stat(file) for file in files if file.exists()]
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)
