"""Running what was exported: one interface for a run folder, a SavedModel and a `.tflite`."""

import contextlib
import functools
import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from keras_transformer._quiet import quiet_stderr
from keras_transformer.artefacts.artefact import (
    SEES,
    Artefact,
    Spec,
    as_arrays,
    check_arrays,
    sees,
    specs_of,
)
from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.artefacts.text_to_text import SIGNATURES, STREAMING, TextToText
from keras_transformer.errors import InputError
from keras_transformer.export.folder import CARD, EXTRA, PIECES, TASK, saved_model_versions
from keras_transformer.export.tflite.metadata import VOCABULARY, read_file

THREADS = os.cpu_count() or 1
# What an artefact from text to text has at least.
REQUIRED = frozenset(SIGNATURES) - {"sample", "align", "attention", *STREAMING}
READS = frozenset({"serving_default", "tokenize"})  # what takes text has these
# Files of version 0.1 do not say what they are for: the first of these outputs tells.
TASKS_OF_OUTPUTS = {
    "tokens": "masked-lm",
    "labels": "token-classification",
    "answer": "question-answering",
    "embedding": "embedding",
    "label": "classification",
    "text": "translation",
}


@overload
def load(
    path: Path | str,
    options: GenerationOptions | None = None,
    jit_compile: bool = False,
    *,
    gives: Literal["text"],
) -> TextToText: ...


@overload
def load(
    path: Path | str,
    options: GenerationOptions | None = None,
    jit_compile: bool = False,
    gives: str | None = None,
) -> Artefact: ...


def load(
    path: Path | str,
    options: GenerationOptions | None = None,
    jit_compile: bool = False,
    gives: str | None = None,
) -> Artefact:
    """Load anything that takes text or pictures.

    Args:
        path: A run folder, a SavedModel (the folder of a version, or the one that holds the
            versions, of which the highest is taken), a folder that `export` wrote, or a `.tflite`
            file that takes text or pictures.
        options: `GenerationOptions` for a run. Those of an artefact were chosen when it was
            exported.
        jit_compile: Whether XLA compiles the model of a run, likewise.
        gives: An output that it has to give: "text", "embedding", "label", "labels", "answer" or
            "tokens"; None for any.

    Returns:
        What has signatures, and answers texts when it is called; see `Artefact`.

    Raises:
        InputError: If it is none of these, or damaged, or no run and options are given, or it
            gives something else.
    """
    path = Path(path)
    check_model(path)
    check_options(path, options, jit_compile)
    artefact = _load(path, options, jit_compile)
    if gives is not None and gives != artefact.gives:
        raise InputError(
            f"{path} gives {' and '.join(sorted(_outputs(artefact)))}, and no {gives}."
        )
    return artefact


def _load(path: Path, options: GenerationOptions | None, jit_compile: bool) -> Artefact:
    artefact: _File
    if path.is_file():
        artefact = TFLiteModel(path)
        if not artefact.signatures & {"tokenize", SEES}:
            raise InputError(
                f"{path} takes no text. Give the .tflite that export wrote as model.tflite; "
                "model.ids.tflite is for programs that cut text into pieces themselves."
            )
        _check_signatures(path, artefact)
        return artefact
    if (path / "config.json").is_file():
        from keras_transformer.training.run.run_directory import RunDirectory

        servable = RunDirectory.open(path).servable(options, jit_compile)
        if hasattr(servable.model, "transpose_output"):
            servable.model.transpose_output()
        return servable
    found = saved_model_versions(path)
    artefact = SavedModel(found[max(found)])
    _check_signatures(path, artefact)
    return artefact


def open_file(path: Path) -> Artefact:
    """Open a SavedModel's version or any `.tflite` file, whatever it takes."""
    return TFLiteModel(path) if path.is_file() else SavedModel(path)


def check_model(path: Path) -> None:
    """Make sure that a path is that of a model, as far as names tell.

    Raises:
        InputError: If it is not.
    """
    if not path.exists():
        raise InputError(f"There is no file or folder {path}.")
    if path.is_file() and path.suffix != ".tflite":
        raise InputError(
            f"{path} is not a model: give a run folder, a SavedModel folder or a .tflite file."
        )
    if path.is_dir() and not (path / "config.json").is_file() and not saved_model_versions(path):
        raise InputError(
            f"{path} is not a model: it is neither a run (config.json) nor a SavedModel "
            "(saved_model.pb)."
        )


def check_options(path: Path, options: GenerationOptions | None, jit_compile: bool) -> None:
    """Make sure that options are only given for a run.

    Raises:
        InputError: If they are given for anything else.
    """
    if (options or jit_compile) and not (path / "config.json").is_file():
        raise InputError(
            f"{path} is not a run, and the options of generation are part of an artefact's graph. "
            "Give them to `export`, or use the run that it was made from."
        )


class _File(TextToText):
    """A file that says what it is for."""

    _purpose: dict[str, str]

    @property
    def task(self) -> str:  # type: ignore[override]  # nobody sets it
        """Name of the task that the model is for."""
        return self._purpose["task"]

    @property
    def gives(self) -> str:  # type: ignore[override]  # nobody sets it
        """The output that answers."""
        return self._purpose["gives"]

    @property
    def description(self) -> str:
        """The purpose of the model in a sentence."""
        return self._purpose["description"]


def _read_purpose(artefact: Artefact, read: Callable[[str], str]) -> dict[str, str]:
    """Return what a file says that it is for; see `Artefact.purpose`."""
    with contextlib.suppress(OSError, KeyError):
        return _parse_purpose(read(TASK))
    outputs = _outputs(artefact)
    gives = next((name for name in TASKS_OF_OUTPUTS if name in outputs), "")
    task = TASKS_OF_OUTPUTS.get(gives, "")
    if sees(artefact):
        task = "image-classification"
    elif task == "translation" and "align" not in artefact.signatures:
        task = "causal-lm"
    with contextlib.suppress(OSError, KeyError, ValueError):
        return {"task": task, "gives": gives, "description": json.loads(read(CARD))["description"]}
    return {"task": task, "gives": gives, "description": ""}


def _parse_purpose(text: str) -> dict[str, str]:
    """Read `task.json`.

    Raises:
        InputError: If it is damaged.
    """
    try:
        purpose = json.loads(text)
        return {name: str(purpose[name]) for name in ("task", "gives", "description")}
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{TASK} is damaged ({error!r}); export the model again with this version."
        ) from None


def _outputs(artefact: Artefact) -> dict[str, Spec]:
    """Return what an artefact gives, whatever it takes."""
    names = [name for name in (SEES, "serving_default") if name in artefact.signatures]
    return artefact.specs(names[0])[1] if names else {}


class SavedModel(_File):
    """A SavedModel that `export_saved_model` wrote. It needs TensorFlow and tf.text only.

    Args:
        path: Folder of one version.

    Raises:
        InputError: If it can't be loaded.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with quiet_stderr():
            import tensorflow as tf
            import tensorflow_text  # noqa: F401  (registers the ops that are in the graph)

        self._constant = tf.constant
        try:
            self._model = tf.saved_model.load(str(path))
        except (OSError, ValueError, IndexError, tf.errors.OpError) as error:
            raise InputError(f"{path} can't be loaded: {error}") from None
        self.signatures = frozenset(self._model.signatures)
        self._purpose = _read_purpose(self, self._read)

    def call(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        """Call a signature; see `TextToText.call`."""
        function = self._model.signatures[signature]
        specs = function.structured_input_signature[1]
        arrays = as_arrays(inputs)
        check_arrays(arrays, specs_of(specs))
        tensors = {name: self._constant(x, specs[name].dtype) for name, x in arrays.items()}
        return {name: tensor.numpy() for name, tensor in function(**tensors).items()}

    def specs(self, signature: str) -> tuple[dict[str, Spec], dict[str, Spec]]:
        """Return what a signature takes and gives; see `TextToText.specs`."""
        function = self._model.signatures[signature]
        return (
            specs_of(function.structured_input_signature[1]),
            specs_of(function.structured_outputs),
        )

    def warmup(self) -> list[tuple[str, list[bytes]]]:
        """Return the warm-up requests that `export` wrote; see `TextToText.warmup`."""
        from keras_transformer.export.tf_serving import read_warmup

        return read_warmup(self._path)

    @functools.cached_property
    def vocabulary(self) -> list[str]:
        """The pieces that ids stand for."""
        return _pieces(self._path, self._read)

    def _read(self, name: str) -> str:
        return (self._path / EXTRA / name).read_text("utf-8")


class TFLiteModel(_File):
    """A `.tflite` file, run by LiteRT with tf.text's ops.

    Args:
        path: The file.

    Raises:
        InputError: If it can't be loaded.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._interpreter = interpreter(path)
        self.signatures = frozenset(self._interpreter.get_signature_list())
        self._runners: dict[str, Any] = {}
        self._lock = threading.Lock()  # an interpreter does one thing at a time
        self._purpose = _read_purpose(self, self._read)

    def call(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        """Call a signature; see `TextToText.call`."""
        with self._lock:
            if signature not in self._runners:
                runner = self._interpreter.get_signature_runner(signature)
                self._runners[signature] = runner, _lite_specs(runner.get_input_details())
            runner, specs = self._runners[signature]
            arrays = as_arrays(inputs)
            check_arrays(arrays, specs)
            return runner(**arrays)

    def specs(self, signature: str) -> tuple[dict[str, Spec], dict[str, Spec]]:
        """Return what a signature takes and gives; see `TextToText.specs`."""
        runner = self._interpreter.get_signature_runner(signature)
        return _lite_specs(runner.get_input_details()), _lite_specs(runner.get_output_details())

    @functools.cached_property
    def vocabulary(self) -> list[str]:
        """The pieces that ids stand for."""
        return _pieces(self._path, self._read)

    def _read(self, name: str) -> str:
        return read_file(self._path, name)


def _lite_specs(details: Mapping[str, Any]) -> dict[str, Spec]:
    return {
        name: Spec(
            "string" if detail["dtype"] is np.bytes_ else np.dtype(detail["dtype"]).name,
            tuple(None if size < 0 else int(size) for size in detail["shape_signature"]),
        )
        for name, detail in details.items()
    }


def _pieces(path: Path, read: Callable[[str], str]) -> list[str]:
    with contextlib.suppress(OSError, KeyError):
        return json.loads(read(PIECES))
    try:
        return read(VOCABULARY).removesuffix("\n").split("\n")
    except (OSError, KeyError):
        raise InputError(
            f"{path} holds no {VOCABULARY}, so its pieces have no names; export it again with this "
            "version."
        ) from None


def _check_signatures(path: Path, artefact: Artefact) -> None:
    """Refuse an artefact that lacks signatures, such as one of an older version."""
    if sees(artefact):
        return
    missing = READS - artefact.signatures
    if not missing and artefact.gives == "text":
        missing = REQUIRED - artefact.signatures
    if missing:
        raise InputError(
            f"{path} has no signature {', '.join(sorted(missing))}; export it again with this "
            "version."
        )


def interpreter(path: Path) -> Any:
    """Make a LiteRT interpreter for a `.tflite` file, with tf.text's ops.

    Raises:
        InputError: If the file is damaged or needs an op that the runtime lacks.
    """
    with quiet_stderr():
        import tensorflow_text
        from ai_edge_litert.interpreter import InterpreterWithCustomOps

        try:
            made = InterpreterWithCustomOps(
                model_content=path.read_bytes(),
                custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
                num_threads=THREADS,
            )
            made.allocate_tensors()  # here, because LiteRT announces its delegate in it
            return made
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{path} can't be loaded: {error}") from None
