"""The commands that read texts or pictures: embed, classify, tag, answer, fill-mask."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_transformer.cli.checks import check_file_free, check_files_exist, check_model_exists
from keras_transformer.cli.columns import as_cell
from keras_transformer.cli.options import Batch, Input, Model, Output
from keras_transformer.cli.terminal import make_console, output_file, progress, warn_of_cut
from keras_transformer.errors import InputError

if TYPE_CHECKING:
    import numpy as np


MASKS = ("[MASK]", "<mask>")  # as they are usually written
# Of `classify` alone, as only there pictures may be meant.
LinesOrPictures = Annotated[
    str, typer.Option(help="Text file, or - for standard input; names of pictures, one a line.")
]


def embed(
    model: Model,
    input: Input = "-",
    output: Output = "-",
    batch: Batch = 32,
) -> None:
    """Write the vector of each line, as a JSON array."""

    def lines(outputs: dict[str, "np.ndarray"], done: int) -> Iterator[str]:
        for vector in outputs["embedding"].tolist():
            yield json.dumps([round(x, 7) for x in vector]) + "\n"

    read_all(model, input, output, batch, "embedding", "Embedding", lines)


def classify(
    model: Model,
    input: LinesOrPictures = "-",
    output: Output = "-",
    batch: Batch = 32,
) -> None:
    """Write the likeliest label of each line.

    Its probability follows, with a tab between. A model of images reads pictures (PNG, JPEG, BMP,
    GIF), of which each line names one.
    """

    def lines(outputs: dict[str, "np.ndarray"], done: int) -> Iterator[str]:
        pairs = zip(outputs["label"].tolist(), outputs["probability"].tolist(), strict=True)
        for label, probability in pairs:
            yield f"{as_cell(label.decode('utf-8'))}\t{probability:.6f}\n"

    read_all(model, input, output, batch, "label", "Classifying", lines)


def tag(
    model: Model,
    input: Input = "-",
    output: Output = "-",
    batch: Batch = 32,
) -> None:
    """Label each word of each line.

    Each line becomes a JSON array of word, label and probability. Words are what lies between white
    space. One that the model did not see, because the line is too long for it, has an empty label.
    """

    def lines(outputs: dict[str, "np.ndarray"], done: int) -> Iterator[str]:
        columns = [outputs[name].tolist() for name in ("words", "labels", "probabilities")]
        for row in zip(*columns, strict=True):
            words = [
                {
                    "word": word.decode("utf-8", "replace"),
                    "label": label.decode("utf-8"),
                    "probability": round(probability, 6),
                }
                for word, label, probability in zip(*row, strict=True)
                if word  # the rest is padding
            ]
            yield json.dumps(words, ensure_ascii=False) + "\n"

    read_all(model, input, output, batch, "labels", "Labelling", lines)


def answer(
    model: Model,
    question: Annotated[str | None, typer.Option(help="A question.")] = None,
    passage: Annotated[str | None, typer.Option(help="The text that answers it.")] = None,
    input: Annotated[
        str | None,
        typer.Option(help="File of lines with question, tab and passage; - for standard input."),
    ] = None,
    output: Output = "-",
    batch: Batch = 32,
) -> None:
    """Answer questions with words of a passage.

    Each line holds the answer and its probability, with a tab between. Without words to choose from
    the answer is empty, and its probability 0.
    """
    one = question is not None and passage is not None
    if one == (input is not None) or (question is None) != (passage is None):
        raise InputError("Give --question and --passage, or pairs of them by --input.")

    def row_of(line: str, number: int) -> dict[str, str]:
        parts: list[Any] = line.split("\t") if input is not None else [question, passage]
        if len(parts) != 2:
            raise InputError(
                f"{input}, line {number:,}: a line is a question, a tab and a passage; this one "
                f"has {len(parts) - 1} tabs."
            )
        return dict(zip(("question", "passage"), parts, strict=True))

    def lines(outputs: dict[str, "np.ndarray"], done: int) -> Iterator[str]:
        pairs = zip(outputs["answer"].tolist(), outputs["score"].tolist(), strict=True)
        for text, score in pairs:
            yield f"{as_cell(text.decode('utf-8', 'replace'))}\t{score:.6f}\n"

    given = None if input is not None else [""]
    read_all(model, input or "-", output, batch, "answer", "Answering", lines, row_of, given)


def fill_mask(
    model: Model,
    text: Annotated[
        list[str] | None, typer.Argument(help="Text with masks, such as [MASK] or <mask>.")
    ] = None,
    input: Annotated[
        str | None, typer.Option(help="File of such texts, one a line, or - for standard input.")
    ] = None,
    output: Output = "-",
    batch: Batch = 32,
) -> None:
    """Write the likeliest tokens for each mask of a text.

    Each line holds the number of the text, that of the mask in it, a token as the vocabulary writes
    it and its probability, with tabs between.
    """
    if bool(text) == (input is not None):
        raise InputError("Give texts, or a file of them by --input.")

    def lines(outputs: dict[str, "np.ndarray"], done: int) -> Iterator[str]:
        tokens, probabilities = outputs["tokens"].tolist(), outputs["probabilities"].tolist()
        for number, masks in enumerate(tokens, done + 1):
            if not masks[0][0]:
                raise InputError(
                    f"Text {number:,} has no mask, such as {' or '.join(MASKS)}, within the "
                    "length that the model reads."
                )
        for number, some in enumerate(zip(tokens, probabilities, strict=True), done + 1):
            for place, best in enumerate(zip(*some, strict=True), 1):
                for token, probability in zip(*best, strict=True):
                    if token:  # the rest is padding
                        name = as_cell(token.decode("utf-8", "replace"))
                        yield f"{number}\t{place}\t{name}\t{probability:.6f}\n"

    read_all(model, input or "-", output, batch, "tokens", "Filling in", lines, given=text or None)


def read_all(
    model: Path,
    input: str,
    output: str,
    batch: int,
    gives: str,
    title: str,
    lines: Callable[[dict[str, Any], int], Iterable[str]],
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
    console = make_console()
    count = None if input == "-" else count_lines(input)
    source = read_lines(input) if given is None else given
    truncated: list[int] = []
    done = 0
    with output_file(output) as file, progress(title, console) as show:
        task = show.add_task("", total=count if given is None else len(given))

        def advance(number: int) -> None:
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


def _see(
    artefact: Any, names: Iterable[str], batch: int, advance: Callable[[int], None]
) -> Iterator[tuple[dict[str, "np.ndarray"], list[int]]]:
    """Answer pictures by the names of their files; they are decoded here, as LiteRT can't."""
    from keras_transformer.pipelines.images import read_pictures

    _, size, _, channels = artefact.specs("pixels")[0]["pixels"].shape
    names = iter(names)
    while some := list(islice(names, batch)):
        yield artefact.call("pixels", pixels=read_pictures(some, size, channels)), []
        advance(len(some))
