"""Running what was exported: one interface for a run folder, a SavedModel and a `.tflite`."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_transformer._quiet import quiet_stderr
from keras_transformer.errors import InputError
from keras_transformer.translation import Alignment, TextToText, decode

THREADS = os.cpu_count() or 1
# What an artefact from text to text can be asked for.
SIGNATURES = {"translate", "complete", "next_token", "score", "align", "tokenize"}


def load(path, options=None, jit_compile: bool = False) -> TextToText:
    """Load anything that translates text.

    Args:
        path: A run folder, a SavedModel (the folder of a version, or the one that holds the
            versions, of which the highest is taken), a folder that `export` wrote, or a `.tflite`
            file that takes text.
        options: `GenerationOptions` for a run. Those of an artefact were chosen when it was
            exported.
        jit_compile: Whether XLA compiles the model of a run, likewise.

    Returns:
        An object for `keras_transformer.translation.translate`.

    Raises:
        InputError: If it is none of these, or damaged, or no run and options are given.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no file or folder {path}.")
    if (options or jit_compile) and not (path / "config.json").is_file():
        raise InputError(
            f"{path} is no run, and the options of generation are part of an artefact's graph. "
            "Give them to `export`, or use the run that it was made from."
        )
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
        model = run.load_model()
        model.transpose_output()
        return Translator(model, tokenizer, options, jit_compile)
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


class _Artefact:
    """What can be asked of an artefact, by the names of its signatures."""

    def run(self, texts: Sequence[str], prefixes: Sequence[str] | None = None):
        """Translate one batch to the N best texts of each and their scores."""
        if prefixes is None:
            outputs = self._call("translate", text=texts)
        else:
            outputs = self._call("complete", text=texts, prefix=prefixes)
        return decode(outputs["text"]), outputs["score"].tolist()

    def tokenize(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Cut texts into ids `(B, S)`, and say which are too long for the model `(B,)`."""
        outputs = self._call("tokenize", text=texts)
        return outputs["ids"], outputs["truncated"]

    def score(self, texts, targets) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return log-probabilities of targets, their numbers of tokens, and which were cut."""
        outputs = self._call("score", text=texts, target=targets)
        return outputs["score"], outputs["tokens"], outputs["truncated"]

    def next_token_probabilities(self, texts, targets) -> np.ndarray:
        """Return the distributions `(B, V)` of the token that follows each part of a target."""
        return self._call("next_token", text=texts, target=targets)["probabilities"]

    def align(self, texts, targets) -> list[Alignment]:
        """Show which pieces of each text the pieces of its target attend to."""
        return Alignment.of_batch(**self._call("align", text=texts, target=targets))

    def _call(self, signature, **texts) -> dict[str, np.ndarray]:
        raise NotImplementedError


class SavedModel(_Artefact):
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
        missing = SIGNATURES - set(self._model.signatures)
        if missing:
            raise InputError(
                f"{path} has no signature {', '.join(sorted(missing))}; export it again with this "
                "version."
            )
        self._constant = functools.partial(tf.constant, dtype=tf.string)

    def _call(self, signature, **texts):
        inputs = {name: self._constant(list(some)) for name, some in texts.items()}
        outputs = self._model.signatures[signature](**inputs)
        return {name: tensor.numpy() for name, tensor in outputs.items()}


class TFLiteModel(_Artefact):
    """A `.tflite` file from text to text, run by LiteRT with tf.text's ops.

    Args:
        path: The file.

    Raises:
        InputError: If it can't be loaded or takes no text.
    """

    def __init__(self, path: Path):
        self._interpreter = interpreter(path)
        signatures = set(self._interpreter.get_signature_list())
        if "tokenize" not in signatures:
            raise InputError(
                f"{path} takes no text. Give the .tflite that export wrote as model.tflite; "
                "model.ids.tflite is for programs that cut text into pieces themselves."
            )
        if missing := SIGNATURES - signatures:
            raise InputError(
                f"{path} has no signature {', '.join(sorted(missing))}; export it again with this "
                "version."
            )
        self._runners = {name: self._interpreter.get_signature_runner(name) for name in SIGNATURES}

    def _call(self, signature, **texts):
        return self._runners[signature](**{name: _encode(some) for name, some in texts.items()})


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
