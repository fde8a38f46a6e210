"""The commands for published models and for what reads text: import, embed, classify."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from keras_transformer.cli_checks import check_file_free, check_files_exist, check_model_exists
from keras_transformer.cli_generation import Model, output_file, progress, warn_of_cut
from keras_transformer.errors import InputError

Input = Annotated[str, typer.Option(help="Text file, or - for standard input.")]
Output = Annotated[str, typer.Option(help="File to write, or - for standard output.")]
Batch = Annotated[int, typer.Option(help="Texts at once.", min=1)]


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
) -> None:
    """Make a run folder of a published checkpoint, so that `export` takes it."""
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    from keras_transformer.training.importing import import_checkpoint

    run = import_checkpoint(folder, output, head, overwrite)
    kind = run.head().task
    _console().print(f"{run.path}: a model for {kind}; export takes it", markup=False)


def embed(
    model: Model,
    input: Input = "-",
    output: Output = "-",
    batch: Batch = 32,
) -> None:
    """Write the vector of each line as a JSON array, one a line."""

    def lines(outputs):
        for vector in outputs["embedding"].tolist():
            yield json.dumps([round(x, 7) for x in vector]) + "\n"

    _read(model, input, output, batch, "embedding", "Embedding", lines)


def classify(
    model: Model,
    input: Input = "-",
    output: Output = "-",
    batch: Batch = 32,
) -> None:
    """Write the likeliest label of each line and its probability, with a tab between."""

    def lines(outputs):
        pairs = zip(outputs["label"].tolist(), outputs["probability"].tolist(), strict=True)
        for label, probability in pairs:
            yield f"{label.decode('utf-8')}\t{probability:.6f}\n"

    _read(model, input, output, batch, "label", "Classifying", lines)


def _read(model, input, output, batch, gives, title, lines):
    """Answer all lines in batches, in order."""
    check_model_exists(model)
    if input != "-":
        check_files_exist(Path(input))
    if output != "-":
        check_file_free(Path(output), overwrite=True)
    from keras_transformer.export.runtime import load
    from keras_transformer.reading import read_lines_in_order
    from keras_transformer.training.text_files import read_lines

    artefact = load(model, gives=gives)
    console = _console()
    count = None if input == "-" else sum(1 for _ in read_lines(input))
    truncated: list[int] = []
    done = 0
    with output_file(output) as file, progress(title, console) as show:
        task = show.add_task("", total=count)
        for outputs, cut in read_lines_in_order(
            artefact, read_lines(input), batch, lambda n: show.update(task, advance=n)
        ):
            file.writelines(lines(outputs))
            truncated += [done + i + 1 for i in cut]
            done += len(outputs[gives])
    warn_of_cut(console, truncated, done)


def _console() -> Console:
    return Console(stderr=True, soft_wrap=True, highlight=False)
