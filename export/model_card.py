"""The model card: what a model is for, what it was made from, and how good it is, as JSON."""

import json
from importlib.metadata import version
from pathlib import Path

from tensorflow.core.protobuf import saved_model_pb2

from keras_transformer.export.tf_serving import MINIMUM_SERVER

PACKAGES = ("keras-transformer", "tensorflow", "tensorflow-text", "keras", "ai-edge-litert")


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
    training = run.training_config()
    sides = training.source, training.target
    files = [[Path(name).name for name in _as_list(side)] for side in sides]
    guesses = [_ending(some[0]) for some in files]
    source, target = (given or guess for given, guess in zip(languages, guesses, strict=True))
    model = run.model_config()
    return {
        "name": name,
        "task": "text-to-text",
        "languages": {"source": source, "target": target},
        "description": f"Writes {target} for {source}: text in, text out.",
        "model": model.to_dict(),
        "generation": options,
        "data": {
            "source": files[0],
            "target": files[1],
            "validation": [Path(training.valid_source).name, Path(training.valid_target).name],
            "pairs": {
                part: size["size"]["pairs"]
                for part, size in run.sizes().items()
                if "pairs" in size.get("size", {})
            },
        },
        "training": {"steps": run.steps_done(), "precision": training.precision},
        "metrics": _best(run),
        "versions": {package: version(package) for package in PACKAGES},
        "ops": ops_of(saved_model),
        "minimum_server_version": MINIMUM_SERVER,
    }


def ops_of(saved_model: Path) -> list[str]:
    """List the ops of a SavedModel, which a server has to have."""
    content = (saved_model / "saved_model.pb").read_bytes()
    graph = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].graph_def
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    functions = {f.signature.name for f in graph.library.function}
    return sorted({node.op for node in nodes} - functions)


def _as_list(side):
    return [side] if isinstance(side, str) else side


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
