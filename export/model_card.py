"""The model card: what a model is for, what it was made from, and how good it is, as JSON."""

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tensorflow.core.protobuf import saved_model_pb2

from keras_transformer import DISTRIBUTION
from keras_transformer.export.tf_serving import MINIMUM_SERVER
from keras_transformer.pipelines.servable import Servable
from keras_transformer.training.config import TrainingConfig
from keras_transformer.training.run.run_directory import RunDirectory

PACKAGES = (DISTRIBUTION, "tensorflow", "tensorflow-text", "keras", "ai-edge-litert")


def model_card(
    name: str, servable: Servable, of_run: dict[str, Any], saved_model: Path
) -> dict[str, Any]:
    """Describe what is exported.

    Args:
        name: Name of the model.
        servable: What was exported.
        of_run: What is known of its training; see `card_of_run`.
        saved_model: Folder of a version, whose ops are listed if it is there.

    Returns:
        Plain values.
    """
    return {
        "name": name,
        **servable.purpose,
        **of_run,
        "model": servable.model.config.to_dict(),
        "versions": {package: version(package) for package in PACKAGES},
        "ops": ops_of(saved_model) if saved_model.is_dir() else [],
        "minimum_server_version": MINIMUM_SERVER,
    }


def card_of_run(run: RunDirectory) -> dict[str, Any]:
    """Describe how a run was trained: its data, its length and its best validation.

    The paths of the text are left out, its files' names are in.
    """
    card: dict[str, Any] = {"metrics": _best(run)}
    if not run.was_trained_here:
        return card
    training = run.training_config()
    done = {"steps": run.steps_done(), "precision": training.precision}
    return {"data": _data(run, training), "training": done, **card}


def name_languages(
    run: RunDirectory, source: str | None, target: str | None
) -> tuple[str | None, str | None]:
    """Return the languages of a translation: those given, or the endings of the text's files."""
    guesses: tuple[str | None, str | None] = (None, None)
    if run.task_settings().task == "translation" and run.was_trained_here:
        training = run.training_config()
        if training.source:
            guesses = _ending(_names(training.source)[0]), _ending(_names(training.target)[0])
    return source or guesses[0], target or guesses[1]


def _data(run: RunDirectory, training: TrainingConfig) -> dict[str, Any]:
    """Name the files, and count what was in them."""
    if training.source:
        files = {
            "source": _names(training.source),
            "target": _names(training.target),
            "validation": [
                Path(str(training.valid_source)).name,
                Path(str(training.valid_target)).name,
            ],
        }
    else:
        files = {
            "examples": _names(training.data),
            "validation": _names(training.valid_data),
        }
    counts = {
        part: size["size"].get("pairs", size["size"].get("examples"))
        for part, size in run.sizes().items()
        if {"pairs", "examples"} & size.get("size", {}).keys()
    }
    return {**files, "pairs": counts}


def ops_of(saved_model: Path) -> list[str]:
    """List the ops of a SavedModel, which a server has to have."""
    content = (saved_model / "saved_model.pb").read_bytes()
    graph = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].graph_def
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    functions = {f.signature.name for f in graph.library.function}
    return sorted({node.op for node in nodes} - functions)


def _names(side: str | Sequence[str] | None) -> list[str]:
    return [Path(str(name)).name for name in ([side] if isinstance(side, str) else side or [])]


def _ending(name: str) -> str:
    """Return what a file's name says of the language: `train.de.gz` is in `de`."""
    parts = name.removesuffix(".gz").rsplit(".", 1)
    return parts[1] if len(parts) == 2 else "text"


def _best(run: RunDirectory) -> dict[str, Any]:
    """Return the validation with the lowest loss, whose weights are exported."""
    if not run.metrics_path.is_file():
        return {}
    lines = [json.loads(line) for line in run.metrics_path.read_text("utf-8").splitlines()]
    found = [line for line in lines if "validation/loss" in line]
    best: dict[str, Any] = min(found, key=lambda line: line["validation/loss"], default={})
    return {name: value for name, value in best.items() if not name.startswith("train/")}
