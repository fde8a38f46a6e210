"""The command `keras-transformer`.

Each command loads what it needs when it runs, so that `--help` and errors in arguments answer at
once. Bad input is printed without a traceback, and exits with status 2.
"""

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from keras_transformer import __version__
from keras_transformer.cli.attention import attention
from keras_transformer.cli.checks import check_file_free, check_files_exist
from keras_transformer.cli.costs import flops
from keras_transformer.cli.evaluate import evaluate
from keras_transformer.cli.explain import explain
from keras_transformer.cli.generate import generate
from keras_transformer.cli.params import params
from keras_transformer.cli.read import classify, embed, import_
from keras_transformer.cli.serve import serve
from keras_transformer.cli.tokenizers import tokenizers
from keras_transformer.cli.train import train
from keras_transformer.cli.training_tools import average, data_service, memory, tune
from keras_transformer.cli.translate import export, score, translate
from keras_transformer.cli.words import answer, fill_mask, tag
from keras_transformer.errors import InputError

app = typer.Typer(
    name="keras-transformer",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"keras-transformer {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """From text files to a Transformer that runs anywhere."""


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):  # as files are, whatever the locale says
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # what could not be written is known now, and not after the end
    except InputError as error:
        _fail(error)
    except Exception as error:
        from keras_transformer.files import system_problem

        if (problem := system_problem(error)) is None:
            raise
        _fail(problem)


def _fail(message):
    _console().print(f"error: {message}", style="red", markup=False, highlight=False)
    try:
        sys.stdout.flush()
    except OSError:  # Python would try to write what is left once more, at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(2)


def _console() -> Console:
    return Console(stderr=True, soft_wrap=True, highlight=False)


@app.command()
def vocab(
    input: Annotated[list[Path], typer.Option(help="Text file, plain or .gz; repeatable.")],
    output: Annotated[Path, typer.Option(help="File to write, one piece a line.")],
    size: Annotated[int, typer.Option(help="Number of pieces.")] = 8000,
    score: Annotated[
        Literal["frequency", "likelihood"],
        typer.Option(
            help="Which pair of pieces to merge next: by 'frequency', or by 'likelihood', which "
            "wants a --min-frequency as high as still fills the vocabulary."
        ),
    ] = "frequency",
    min_frequency: Annotated[int, typer.Option(help="Never merge pairs seen less often.")] = 2,
    split_digits: Annotated[bool, typer.Option(help="Keep digits single pieces.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace the output file.")] = False,
) -> None:
    """Learn a WordPiece vocabulary from text."""
    check_files_exist(*input)
    from keras_transformer.files import read_lines, replacing
    from keras_transformer.text.learner import learn_vocabulary

    check_file_free(output, overwrite)
    console = _console()
    lines = (line for path in input for line in read_lines(path))
    try:
        pieces = learn_vocabulary(
            lines,
            size,
            score=score,
            min_frequency=min_frequency,
            split_digits=split_digits,
            progress=console.is_terminal,
        )
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"The vocabulary can't be learned: {error}") from None
    with replacing(output) as new:
        new.write_text("".join(f"{p}\n" for p in pieces), "utf-8", newline="\n")
    if len(pieces) < size:
        console.print(f"The text gives only {len(pieces):,} pieces, {size:,} were asked for.")
    console.print(f"{output}: {len(pieces):,} pieces")


for commands in (
    (train, average, tune, memory, flops, data_service),
    (translate, score, evaluate, attention, export, serve),
    (import_, generate, embed, classify),
    (tag, answer, fill_mask),
    (tokenizers, explain, params),
):
    for command in commands:
        app.command(command.__name__.rstrip("_").replace("_", "-"))(command)


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for text, run and export.")] = Path(
        "runs/demo"
    ),
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier demo.")] = False,
) -> None:
    """Train, evaluate and export a small model on text that this package generates."""
    from keras_transformer.cli.demo import run_demo

    run_demo(output, overwrite, Console(highlight=False, soft_wrap=True))


@app.command()
def doctor() -> None:
    """Show versions and devices, what is missing, and how to get it."""
    from keras_transformer.cli.doctor import report

    raise typer.Exit(report(Console(highlight=False, soft_wrap=True)))


if __name__ == "__main__":
    main()
