"""The command `vocab`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from keras_transformer.cli.checks import check_file_free, check_files_exist
from keras_transformer.cli.terminal import make_console
from keras_transformer.errors import InputError


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
    console = make_console()
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
