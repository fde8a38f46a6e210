"""`keras-transformer doctor`: what this machine has, what it lacks, and how to get it."""

import importlib.metadata
import os
import platform
from collections.abc import Iterator

import typer
from rich.console import Console

from keras_transformer.cli.terminal import make_printer

# What is needed for what, with the command that brings it.
PACKAGES = {
    "tensorflow": ("training, SavedModel", "pip install 'tensorflow>=2.21,<2.22'"),
    "tensorflow-text": ("the tokeniser in the graph", "pip install 'tensorflow-text>=2.21,<2.22'"),
    "keras": ("layers and models", "pip install 'keras>=3.15,<4'"),
    "ai-edge-litert": ("running .tflite files", "pip install 'ai-edge-litert>=2.3,<3'"),
    "flatbuffers": ("metadata of .tflite files", "pip install 'flatbuffers>=24'"),
    "tensorflow-serving-api": (
        "warm-up requests, gRPC",
        "pip install 'tensorflow-serving-api>=2.21,<2.22'",
    ),
    "grpcio": ("serving by gRPC", "pip install 'grpcio>=1.66,<2'"),
    "grpcio-health-checking": ("serving by gRPC", "pip install 'grpcio-health-checking>=1.66,<2'"),
    "fastapi": ("serving by REST", "pip install 'fastapi>=0.115,<1'"),
    "uvicorn": ("serving by REST", "pip install 'uvicorn>=0.32,<1'"),
    "prometheus-client": ("metrics of a server", "pip install 'prometheus-client>=0.21,<1'"),
    "structlog": ("a server's log", "pip install 'structlog>=24.4'"),
    "requests": ("asking a server", "pip install 'requests>=2.32,<3'"),
    "h5py": ("files of weights", "pip install 'h5py>=3.11,<4'"),
    "tensorboard": ("curves", "pip install 'tensorboard>=2.21,<2.22'"),
    "sacrebleu": ("BLEU and chrF", "pip install 'sacrebleu>=2.4,<3'"),
    "keras-nlp": ("make bench only", "in a checkout: pip install -e '.[bench]'"),
    "matplotlib": ("make experiments only", "in a checkout: pip install -e '.[figures]'"),
}
OPTIONAL = {"keras-nlp", "matplotlib"}


def doctor() -> None:
    """Show versions and devices, and how to get what is missing."""
    raise typer.Exit(report(make_printer()))


def report(console: Console) -> int:
    """Print the report.

    Args:
        console: Where to print.

    Returns:
        0 if everything that is needed is there and works, else 1.
    """

    # Never wrapped, so that a command can be copied from wherever it lands.
    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    say(f"Python {platform.python_version()} on {platform.platform()}")
    say(f"{os.cpu_count()} CPU cores")
    table = [("package", "version", "for", "how to get it")]
    healthy = True
    for name, (purpose, command) in PACKAGES.items():
        try:
            table.append((name, importlib.metadata.version(name), purpose, ""))
        except importlib.metadata.PackageNotFoundError:
            healthy = healthy and name in OPTIONAL
            table.append((name, "missing", purpose, command))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join(cells).rstrip())
    if not healthy:
        return 1
    try:
        for line in _try_everything():
            say(line)
    except Exception as error:  # whatever it is, the doctor's job is to say it
        say(f"TensorFlow does not work here: {error!r}")
        say("Try a fresh environment: python -m venv .venv, then pip install again.")
        return 1
    say("Everything that is needed is here.")
    return 0


def _try_everything() -> Iterator[str]:
    from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)

    import tensorflow as tf  # isort: skip
    import keras

    from keras_transformer.text import SPECIAL_TOKENS, WordPieceTokenizer

    yield f"Keras backend: {keras.config.backend()}"
    if keras.config.backend() != "tensorflow":
        yield "  training and export need TensorFlow: set KERAS_BACKEND=tensorflow"
    for device in tf.config.list_physical_devices():
        yield f"device: {device.name}"
    if not tf.config.list_physical_devices("GPU"):
        yield "  no GPU; for NVIDIA's: pip install 'tensorflow[and-cuda]>=2.21,<2.22'"
    tokenizer = WordPieceTokenizer([*SPECIAL_TOKENS, "a", "##b"])
    if tokenizer.tokenize(["ab"]).to_list() != [[4, 5]]:
        raise RuntimeError("tf.text cuts words wrongly")
    yield "tf.text works"
