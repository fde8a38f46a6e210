"""Writing the `.tflite` files of a servable."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from keras_transformer.export.folder import TASK, lite_name
from keras_transformer.export.saved_model import export_saved_model
from keras_transformer.export.tflite.convert import TF_TEXT_OPS, convert
from keras_transformer.export.tflite.metadata import add_metadata
from keras_transformer.layers.caches import writing_slices
from keras_transformer.pipelines.servable import Servable


def write_tflite(
    servable: Servable,
    folder: Path,
    name: str,
    precisions: Sequence[str],
    tell: Callable[[str], None],
    inside: Sequence[str],
) -> dict[Path, tuple[str, str]]:
    """Write every `.tflite` file of a servable into a folder.

    Args:
        servable: What is exported.
        folder: Where to write, and where the files are that go inside.
        name: Name of the model.
        precisions: Some of `PRECISIONS`.
        tell: Is told what is being done.
        inside: Names of text files of the folder that are put into each `.tflite`.

    Returns:
        The kind of each file, and its name among the paths of an export, such as `ids_tflite`.
    """
    files = {file: (folder / file).read_text("utf-8") for file in inside}
    files[TASK] = json.dumps(servable.purpose, ensure_ascii=False)
    paths = {}
    for kind, file in servable.lite_files.items():
        signatures, ops = file.signatures, file.custom_ops
        if ops:
            ops |= TF_TEXT_OPS
        tell("Writing a SavedModel to convert")
        graph = folder / "to-convert"
        with writing_slices():
            export_saved_model(servable, graph, signatures)
        for precision in precisions:
            path = folder / lite_name(kind, precision)
            tell(f"Converting to {path.name}")
            content = convert(graph, signatures, ops, precision)
            description = f"From {file.takes}, {precision}"
            told = servable.tensors
            path.write_bytes(add_metadata(content, name, description, files, told))
            paths[path] = kind, path.name.removeprefix("model.").replace(".", "_")
        shutil.rmtree(graph)
    return paths
