"""The command `tokenizers`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from keras_transformer.cli.checks import check_files_exist
from keras_transformer.cli.terminal import make_printer
from keras_transformer.errors import InputError

WIDTH = 512  # of the embeddings


def tokenizers(
    input: Annotated[Path, typer.Option(help="Text, UTF-8, one sentence a line.")],
    size: Annotated[int, typer.Option(help="The most pieces of each vocabulary.", min=5)] = 8000,
) -> None:
    """Compare four kinds of tokenisers on one text.

    They are words, characters, WordPiece and byte pairs. Each is learned from the first nine tenths
    of the lines and measured on the last tenth.
    """
    check_files_exist(input)
    from keras_transformer.files import read_lines
    from keras_transformer.text.comparison import compare_tokenizers

    lines = list(read_lines(input))
    try:
        rows = compare_tokenizers(lines, size, WIDTH)
    except ValueError as error:
        raise InputError(f"The tokenisers can't be compared on {input}: {error}") from None
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column("tokeniser", no_wrap=True)
    columns = ("pieces", "tokens/line", "chars/token", "unknown", "parameters")
    for title in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            f"{row.vocabulary_size:,}",
            f"{row.tokens_per_line:.1f}",
            f"{row.characters_per_token:.2f}",
            f"{row.out_of_vocabulary:.2%}",
            f"{row.embedding_parameters:,}",
        )
    console = make_printer()
    console.print(table)
    console.print(
        "\nunknown: words with an unknown piece, of all\n"
        f"parameters: of an embedding of width {WIDTH}"
    )
