"""Running what was exported: one interface for a run folder, a SavedModel and a `.tflite`."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_transformer._quiet import quiet_stderr
from keras_transformer.errors import InputError
from keras_transformer.translation import TextToText, decode

THREADS = os.cpu_count() or 1


def load(path) -> TextToText:
    """Load anything that translates text.

    Args:
        path: A run folder, a SavedModel (the folder of a version, or the one that holds the
            versions, of which the highest is taken), a folder that `export` wrote, or a `.tflite`
            file that takes text.

    Returns:
        An object for `keras_transformer.translator.translate`.

    Raises:
        InputError: If it is none of these, or damaged.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no file or folder {path}.")
    if path.is_file():
        if path.suffix != ".tflite":
            raise InputError(
                f"{path} is no model: give a run folder, a SavedModel folder or a .tflite file."
            )
        return TFLiteModel(path)
    if (path / "config.json").is_file():
        from keras_transformer.training.run_directory import RunDirectory
        from keras_transformer.translator import Translator

        run = RunDirectory.open(path)
        tokenizer = run.tokenizer()
        return Translator(run.load_model(), tokenizer)
    if version := _saved_model_version(path):
        return SavedModel(version)
    raise InputError(
        f"{path} is no model: it is neither a run (config.json) nor a SavedModel (saved_model.pb)."
    )


def _saved_model_version(path: Path) -> Path | None:
    for folder in (path, path / "savedmodel"):
        if (folder / "saved_model.pb").is_file():
            return folder
        versions = [p.parent for p in folder.glob("*/saved_model.pb") if p.parent.name.isdecimal()]
        if versions:
            return max(versions, key=lambda p: int(p.name))
    return None


class SavedModel:
    """A SavedModel that `export_saved_model` wrote. It needs TensorFlow and tf.text only.

    Args:
        path: Folder of one version.

    Raises:
        InputError: If it can't be loaded or was not made by this package.
    """

    def __init__(self, path: Path):
        with quiet_stderr():
            import tensorflow as tf
            import tensorflow_text  # noqa: F401  (registers the ops that are in the graph)

        try:
            self._model = tf.saved_model.load(str(path))
        except (OSError, ValueError, IndexError, tf.errors.OpError) as error:
            raise InputError(f"{path} can't be loaded: {error}") from None
        missing = {"serving_default", "tokenize"} - set(self._model.signatures)
        if missing:
            raise InputError(f"{path} has no signature {', '.join(sorted(missing))}.")
        self._constant = functools.partial(tf.constant, dtype=tf.string)

    def run(self, texts: Sequence[str]) -> tuple[list[str], list[float]]:
        """Translate one batch to texts and scores."""
        outputs = self._model.signatures["serving_default"](text=self._constant(list(texts)))
        return decode(outputs["text"].numpy()), outputs["score"].numpy().tolist()

    def tokenize(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Cut texts into ids `(B, S)`, and say which are too long for the model `(B,)`."""
        outputs = self._model.signatures["tokenize"](text=self._constant(list(texts)))
        return outputs["ids"].numpy(), outputs["truncated"].numpy()


class TFLiteModel:
    """A `.tflite` file from text to text, run by LiteRT with tf.text's ops.

    Args:
        path: The file.

    Raises:
        InputError: If it can't be loaded or takes no text.
    """

    def __init__(self, path: Path):
        self._interpreter = interpreter(path)
        signatures = self._interpreter.get_signature_list()
        if not {"serving_default", "tokenize"} <= set(signatures):
            raise InputError(
                f"{path} takes no text. Give the .tflite that export wrote as model.tflite; "
                "model.ids.tflite is for programs that cut text into pieces themselves."
            )
        self._translate = self._interpreter.get_signature_runner("serving_default")
        self._tokenize = self._interpreter.get_signature_runner("tokenize")

    def run(self, texts: Sequence[str]) -> tuple[list[str], list[float]]:
        """Translate one batch to texts and scores."""
        outputs = self._translate(text=_encode(texts))
        return decode(outputs["text"]), outputs["score"].tolist()

    def tokenize(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Cut texts into ids `(B, S)`, and say which are too long for the model `(B,)`."""
        outputs = self._tokenize(text=_encode(texts))
        return outputs["ids"], outputs["truncated"]


def interpreter(path: Path):
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


def _encode(texts):
    return np.array([text.encode("utf-8") for text in texts], dtype=object)
