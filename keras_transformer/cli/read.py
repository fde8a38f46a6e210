"""The commands for published models and for what reads texts or pictures: import, embed, classify.

What is asked for words of a text is in `cli_words.py`.
"""

import json
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from keras_transformer.cli.checks import check_file_free, check_files_exist, check_model_exists
from keras_transformer.cli.columns import as_cell
from keras_transformer.cli.translate import Model, output_file, progress, warn_of_cut
from keras_transformer.errors import InputError

# Of `classify` alone, as only there pictures may be meant.
LinesOrPictures = Annotated[
    str, typer.Option(help="Text file, or - for standard input; names of pictures, one a line.")
]
Input = Annotated[str, typer.Option(help="Text file, or - for standard input.")]
Output = Annotated[str, typer.Option(help="File to write, or - for standard output.")]
Batch = Annotated[int, typer.Option(help="Number of texts at once.", min=1)]


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
    """Make a run folder of a published checkpoint, so that `export` takes it."""
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    from keras_transformer.training.run.importing import import_checkpoint

    console = _console()

    def tell(note):
        console.print(note, markup=False)

    run = import_checkpoint(folder, output, head, overwrite, prompt, tell)
    kind = run.task_settings().task
    console.print(f"{run.path}: a model for {kind}; export takes it", markup=False)


def embed(
    model: Model,
    input: Input = "-",
    output: Output = "-",
    batch: Batch = 32,
) -> None:
    """Write the vector of each line as a JSON array, one a line."""

    def lines(outputs, done):
        for vector in outputs["embedding"].tolist():
            yield json.dumps([round(x, 7) for x in vector]) + "\n"

    read_all(model, input, output, batch, "embedding", "Embedding", lines)


def classify(
    model: Model,
    input: LinesOrPictures = "-",
    output: Output = "-",
    batch: Batch = 32,
) -> None:
    """Write the likeliest label of each line and its probability, with a tab between.

    A model of images reads pictures (PNG, JPEG, BMP, GIF), of which each line names one.
    """

    def lines(outputs, done):
        pairs = zip(outputs["label"].tolist(), outputs["probability"].tolist(), strict=True)
        for label, probability in pairs:
            yield f"{as_cell(label.decode('utf-8'))}\t{probability:.6f}\n"

    read_all(model, input, output, batch, "label", "Classifying", lines)


def read_all(
    model: Path,
    input: str,
    output: str,
    batch: int,
    gives: str,
    title: str,
    lines: Callable[[dict, int], Iterable[str]],
    row_of: Callable[[str, int], dict[str, str]] = lambda line, number: {"text": line},
    given: list[str] | None = None,
) -> None:
    """Answer all lines in batches, in order, and write what is made of the answers.

    Args:
        model: What answers.
        input: File of lines, or - for standard input.
        output: File to write, or - for standard output.
        batch: Lines at once.
        gives: The output that the model has to have.
        title: What is being done.
        lines: Makes lines of the outputs of some rows, and of the number of rows before them.
        row_of: Makes what the model takes of a line and its number.
        given: Lines, if they are not in a file.
    """
    check_model_exists(model)
    if input != "-":
        check_files_exist(Path(input))
    if output != "-":
        check_file_free(Path(output), overwrite=True)
    from keras_transformer.artefacts.artefact import sees
    from keras_transformer.artefacts.bulk import read_rows_in_order
    from keras_transformer.export.runtime import load
    from keras_transformer.files import read_lines
    from keras_transformer.training.data.corpora import count_lines

    artefact = load(model, gives=gives)
    console = _console()
    count = None if input == "-" else count_lines(input)
    source = read_lines(input) if given is None else given
    truncated: list[int] = []
    done = 0
    with output_file(output) as file, progress(title, console) as show:
        task = show.add_task("", total=count if given is None else len(given))

        def advance(number):
            show.update(task, advance=number)

        answers = (
            _see(artefact, source, batch, advance)
            if sees(artefact)
            else read_rows_in_order(
                artefact, (row_of(line, i) for i, line in enumerate(source, 1)), batch, advance
            )
        )
        for outputs, cut in answers:
            file.writelines(lines(outputs, done))
            truncated += [done + i + 1 for i in cut]
            done += len(outputs[gives])
    warn_of_cut(console, truncated, done)


def _see(artefact, names, batch, advance):
    """Answer pictures by the names of their files; they are decoded here, as LiteRT can't."""
    from keras_transformer.pipelines.images import read_pictures

    _, size, _, channels = artefact.specs("pixels")[0]["pixels"].shape
    names = iter(names)
    while some := list(islice(names, batch)):
        yield artefact.call("pixels", pixels=read_pictures(some, size, channels)), []
        advance(len(some))


def _console() -> Console:
    return Console(stderr=True, soft_wrap=True, highlight=False)
