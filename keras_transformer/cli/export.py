"""The command `export`."""

from pathlib import Path
from typing import Annotated

import typer

from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.cli.options import with_generation_options
from keras_transformer.cli.recipe_option import Config, Recipe
from keras_transformer.cli.terminal import make_console
from keras_transformer.errors import InputError, no_such


@with_generation_options
def export(
    model: Annotated[Path, typer.Option(help="A run folder.")],
    output: Annotated[
        Path, typer.Option(help="Folder to write; an export there gets another version.")
    ],
    recipe: Recipe = None,
    config: Config = None,
    name: Annotated[
        str | None, typer.Option(help="The model's name; the run folder's if not given.")
    ] = None,
    keep: Annotated[int, typer.Option(help="Versions that stay; 0 for all.", min=0)] = 0,
    tflite: Annotated[
        str, typer.Option(help="Precisions of the .tflite files, with commas between.")
    ] = "float32,float16,int8",
    max_quality_loss: Annotated[
        float, typer.Option(help="Most points of BLEU that a .tflite may lose.", min=0)
    ] = 1.0,
    source_language: Annotated[
        str | None, typer.Option(help="For the model card; a file's ending if not given.")
    ] = None,
    target_language: Annotated[
        str | None, typer.Option(help="For the model card, likewise.")
    ] = None,
    jit_compile: Annotated[
        bool, typer.Option("--jit-compile", help="Let XLA compile the SavedModel where it runs.")
    ] = False,
    options: GenerationOptions | None = None,
) -> None:
    """Export a run to TensorFlow Serving and to phones.

    Each file is compared with the model before it is written. The options of generation become part
    of the files.
    """
    if not model.is_dir():
        raise InputError(f"There is no folder {model}.")
    from keras_transformer.export.folder import PRECISIONS

    precisions = tflite.split(",")
    if unknown := set(precisions) - set(PRECISIONS):
        raise no_such("precision", sorted(unknown)[0], PRECISIONS)
    from keras_transformer.export import export_run
    from keras_transformer.training.run.run_directory import RunDirectory

    export_run(
        RunDirectory.open(model),
        output,
        make_console(),
        options,
        jit_compile=jit_compile,
        name=name,
        keep=keep,
        precisions=precisions,
        max_quality_loss=max_quality_loss,
        source_language=source_language,
        target_language=target_language,
    )
