"""Writing the `.tflite` files of a servable."""

import shutil
from pathlib import Path

from keras_transformer.export.folder import lite_name
from keras_transformer.export.saved_model import export_saved_model
from keras_transformer.export.tflite.convert import TF_TEXT_OPS, convert
from keras_transformer.export.tflite.metadata import add_metadata
from keras_transformer.layers.caches import writing_slices


def write_tflite(servable, folder, name, precisions, status, inside) -> dict[str, Path]:
    """Write every `.tflite` file of a servable into a folder.

    Args:
        servable: What is exported.
        folder: Where to write, and where the files are that go inside.
        name: Name of the model.
        precisions: Some of `PRECISIONS`.
        status: Is told what is being done.
        inside: Names of text files of the folder that are put into each `.tflite`.

    Returns:
        The paths by name.
    """
    files = {file: (folder / file).read_text("utf-8") for file in inside}
    paths = {}
    for kind, file in servable.lite_files.items():
        signatures, ops = file.signatures, file.custom_ops
        if ops:
            ops |= TF_TEXT_OPS
        status.update("Writing a SavedModel to convert")
        graph = folder / "to-convert"
        with writing_slices():
            export_saved_model(servable, graph, signatures)
        for precision in precisions:
            path = folder / lite_name(kind, precision)
            status.update(f"Converting to {path.name}")
            content = convert(graph, signatures, ops, precision)
            description = f"From {file.takes}, {precision}"
            told = servable.tensors
            path.write_bytes(add_metadata(content, name, description, files, told))
            paths[path.name.removeprefix("model.").replace(".", "_")] = path
        shutil.rmtree(graph)
    return paths
