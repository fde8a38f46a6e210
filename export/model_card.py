"""The model card: what a model is for, what it was made from, and how good it is, as JSON."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tensorflow.core.protobuf import saved_model_pb2

from keras_transformer import DISTRIBUTION
from keras_transformer.export.tf_serving import MINIMUM_SERVER
from keras_transformer.pipelines.tasks import CAUSAL_LM, SUMMARISATION

PACKAGES = (DISTRIBUTION, "tensorflow", "tensorflow-text", "keras", "ai-edge-litert")


def model_card(
    run, name: str, languages: tuple[str | None, str | None], saved_model: Path, options: dict
) -> dict:
    """Describe a run and the SavedModel that was made of it.

    Args:
        run: The `RunDirectory`.
        name: Name of the model.
        languages: Of source and target; None for the endings of the training text's files.
        saved_model: Folder of a version, whose ops are listed.
        options: How targets are generated.

    Returns:
        Plain values. The paths of the text are left out, its files' names are in.
    """
    training = run.training_config() if run.was_trained_here else None
    card: dict[str, Any] = {
        "name": name,
        "task": "text-to-text",
        **_purpose(run, training, languages),
    }
    if training is not None:
        card |= {
            "data": _data(run, training),
            "training": {"steps": run.steps_done(), "precision": training.precision},
        }
    return {
        **card,
        "model": run.model_config().to_dict(),
        "generation": options,
        "metrics": _best(run),
        "versions": {package: version(package) for package in PACKAGES},
        "ops": ops_of(saved_model),
        "minimum_server_version": MINIMUM_SERVER,
    }


def _purpose(run, training, languages):
    """Say in a sentence what the model is for, and of a translation from what to what."""
    task = run.head().task
    if task == CAUSAL_LM:
        return {"task": task, "description": "Goes on with a text: text in, text out."}
    guesses: list[str | None] = [None, None]
    if training is not None and training.source:
        sides = training.source, training.target
        guesses = [_ending(_names(side)[0]) for side in sides]
    source, target = (given or guess for given, guess in zip(languages, guesses, strict=True))
    if task == SUMMARISATION:
        sentence = "Writes what is important in a text: text in, text out."
    elif source and target:
        sentence = f"Writes {target} for {source}: text in, text out."
    else:
        sentence = "Writes one text for another: text in, text out."
    return {"languages": {"source": source, "target": target}, "description": sentence}


def _data(run, training):
    """Name the files, and count what was in them."""
    if training.source:
        files = {
            "source": _names(training.source),
            "target": _names(training.target),
            "validation": [Path(training.valid_source).name, Path(training.valid_target).name],
        }
    else:
        files = {
            "examples": [Path(training.data).name],
            "validation": [Path(training.valid_data).name],
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


def _names(side):
    return [Path(name).name for name in ([side] if isinstance(side, str) else side)]


def _ending(name):
    """Return what a file's name says of the language: `train.de.gz` is in `de`."""
    parts = name.removesuffix(".gz").rsplit(".", 1)
    return parts[1] if len(parts) == 2 else "text"


def _best(run):
    """Return the validation with the lowest loss, whose weights are exported."""
    if not run.metrics_path.is_file():
        return {}
    lines = [json.loads(line) for line in run.metrics_path.read_text("utf-8").splitlines()]
    found = [line for line in lines if "validation/loss" in line]
    best: dict = min(found, key=lambda line: line["validation/loss"], default={})
    return {name: value for name, value in best.items() if not name.startswith("train/")}
