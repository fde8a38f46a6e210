"""The command `import`."""

from pathlib import Path
from typing import Annotated

import typer

from keras_transformer.cli.terminal import make_console
from keras_transformer.errors import InputError


def import_(
    folder: Annotated[
        Path, typer.Argument(help="Folder with config.json, model.safetensors and vocabulary.")
    ],
    output: Annotated[Path, typer.Option(help="Folder of the run to write.")],
    head: Annotated[
        str | None,
        typer.Option(help="Make another model of it, such as SentenceEncoder."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a run in --output.")] = False,
    prompt: Annotated[
        str | None,
        typer.Option(help="Name of the prompt before each text; the checkpoint's if not given."),
    ] = None,
) -> None:
    """Make a run folder of a published checkpoint.

    Everything that uses a model takes it, and so does `export`.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    from keras_transformer.training.run.importing import import_checkpoint

    console = make_console()

    def tell(note: str) -> None:
        console.print(note, markup=False)

    run = import_checkpoint(folder, output, head, overwrite, prompt, tell)
    kind = run.task_settings().task
    console.print(f"{run.path}: a model for {kind}; export takes it", markup=False)
