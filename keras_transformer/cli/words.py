"""The commands that ask for words of a text: tag, answer, fill-mask."""

import json
from typing import Annotated

import typer

from keras_transformer.cli.columns import as_cell
from keras_transformer.cli.read import Batch, Input, Output, read_all
from keras_transformer.cli.translate import Model
from keras_transformer.errors import InputError

MASKS = ("[MASK]", "<mask>")  # as they are usually written


def tag(
    model: Model,
    input: Input = "-",
    output: Output = "-",
    batch: Batch = 32,
) -> None:
    """Write the label of each word, for each line a JSON array of word, label and probability.

    Words are what lies between white space. One that the model did not see, because the line is too
    long for it, has an empty label.
    """

    def lines(outputs, done):
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
    """Answer questions by words of a passage: the answer and its probability, with a tab between.

    Without words to choose from the answer is empty, and its probability 0.
    """
    one = question is not None and passage is not None
    if one == (input is not None) or (question is None) != (passage is None):
        raise InputError("Give --question and --passage, or pairs of them by --input.")

    def row_of(line, number):
        parts = line.split("\t") if input is not None else [question, passage]
        if len(parts) != 2:
            raise InputError(
                f"{input}, line {number:,}: a line is a question, a tab and a passage; this one "
                f"has {len(parts) - 1} tabs."
            )
        return dict(zip(("question", "passage"), parts, strict=True))

    def lines(outputs, done):
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

    def lines(outputs, done):
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
