"""The commands that write and score text line by line: translate, score."""

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.cli.checks import check_file_free, check_files_exist, check_model_exists
from keras_transformer.cli.columns import as_cell, as_line
from keras_transformer.cli.options import (
    BatchTokens,
    Input,
    JitCompile,
    Model,
    Output,
    Stream,
    with_generation_options,
)
from keras_transformer.cli.terminal import make_console, output_file, progress, warn_of_cut
from keras_transformer.errors import InputError

if TYPE_CHECKING:
    from keras_transformer.artefacts.bulk import Translations
    from keras_transformer.artefacts.text_to_text import TextToText


@with_generation_options
def translate(
    model: Model,
    input: Input = "-",
    output: Output = "-",
    prefix: Annotated[
        Path | None,
        typer.Option(help="Text file: what each output has to begin with, line by line."),
    ] = None,
    batch_tokens: BatchTokens = 1024,
    show_alignment: Annotated[
        bool,
        typer.Option(
            "--show-alignment", help="Write JSON lines: which source piece each piece looks at."
        ),
    ] = False,
    stream: Stream = False,
    jit_compile: JitCompile = False,
    options: GenerationOptions | None = None,
) -> None:
    """Translate text line by line.

    With several hypotheses, each output line holds the number of the input line, the score and the
    text, with tabs between. A line break in a text is written as a space.
    """
    check_model_exists(model)
    _check_texts(input, output, prefix, show_alignment, stream, options)
    from keras_transformer.artefacts.bulk import translate_lines
    from keras_transformer.export.runtime import load
    from keras_transformer.files import read_lines
    from keras_transformer.training.data.corpora import count_lines, spooled

    runtime = load(model, options, jit_compile, gives="text")
    console = make_console()
    if stream:
        _stream(runtime, read_lines(input))
        return
    truncated: list[int] = []
    done = 0
    with contextlib.ExitStack() as stack:
        count: int | None
        if prefix:  # both are read twice
            copies = stack.enter_context(spooled(Path(input), prefix))
            prefixes, count = (sum(1 for _ in read_lines(path)) for path in reversed(copies))
            if prefixes != count:
                raise InputError(f"{prefix} has {prefixes:,} lines, but {input} has {count:,}.")
            copy, prefix = copies
            input = str(copy)
        count = None if input == "-" else count_lines(input)
        file = stack.enter_context(output_file(output))
        show = stack.enter_context(progress("Translating", console))
        task = show.add_task("", total=count)
        lines: list[str] = []  # of the part that is being translated
        for result in translate_lines(
            runtime,
            _keep(read_lines(input), lines),
            batch_tokens,
            lambda n: show.update(task, advance=n),
            prefixes=read_lines(prefix) if prefix else None,
        ):
            if show_alignment:
                file.writelines(_alignments(runtime, lines, result))
            elif result.several:
                file.writelines(
                    f"{done + i + 1}\t{score:.6f}\t{as_cell(text)}\n"
                    for i, some in enumerate(result.hypotheses)
                    for text, score in some
                )
            else:
                file.writelines(f"{as_line(text)}\n" for text in result.texts)
            truncated += [done + i + 1 for i in result.truncated]
            done += len(lines)
            lines.clear()
    warn_of_cut(console, truncated, done)


def _check_texts(
    input: str,
    output: str,
    prefix: Path | None,
    show_alignment: bool,
    stream: bool,
    options: GenerationOptions | None,
) -> None:
    """Refuse files that are not there, and options that contradict each other."""
    if input != "-":
        check_files_exist(Path(input))
    if show_alignment and options is not None and options.num_hypotheses > 1:
        raise InputError("--show-alignment shows one hypothesis; leave --num-hypotheses at 1.")
    if stream and (output != "-" or show_alignment or prefix):
        raise InputError("--stream writes plain text to standard output; leave out the rest.")
    if prefix and input == "-":
        raise InputError("--prefix belongs to the lines of a file; give it by --input.")
    if output != "-":
        check_file_free(Path(output), overwrite=True)


def _keep(lines: Iterable[str], kept: list[str]) -> Iterator[str]:
    """Pass lines on, and keep them until somebody clears the list."""
    for line in lines:
        kept.append(line)
        yield line


def _stream(runtime: "TextToText", lines: Iterable[str]) -> None:
    for line in lines:
        for piece in runtime.stream(line):
            print(piece, end="", flush=True)
        print(flush=True)


def _alignments(
    runtime: "TextToText", lines: Sequence[str], result: "Translations"
) -> Iterator[str]:
    """Yield a line of JSON for each translation."""
    pieces = runtime.vocabulary
    for start in range(0, len(lines), 32):
        some = slice(start, start + 32)
        aligned = runtime.align(lines[some], result.texts[some])
        for text, value, one in zip(result.texts[some], result.scores[some], aligned, strict=True):
            fields = {
                "text": text,
                "score": round(value, 6),
                "source_pieces": [pieces[i] for i in one.source_ids],
                "target_pieces": [pieces[i] for i in one.target_ids],
                "alignment": one.weights.argmax(axis=1).tolist(),
            }
            yield json.dumps(fields, ensure_ascii=False) + "\n"


def score(
    model: Model,
    source: Annotated[Path, typer.Option(help="Source text, plain or .gz.")],
    target: Annotated[Path, typer.Option(help="Target text, line by line.")],
    output: Output = "-",
    batch_tokens: BatchTokens = 1024,
) -> None:
    """Score how likely given targets are.

    Each output line holds the log-probability of a target and its number of tokens, the end
    included, with a tab between.
    """
    check_model_exists(model)
    check_files_exist(source, target)
    if output != "-":
        check_file_free(Path(output), overwrite=True)
    from keras_transformer.files import read_lines
    from keras_transformer.training.data.corpora import ParallelFiles, spooled

    console = make_console()
    total, tokens, done = 0.0, 0, 0
    truncated: list[int] = []
    with contextlib.ExitStack() as stack:
        source, target = stack.enter_context(spooled(source, target))
        count = ParallelFiles(source, target).check()
        from keras_transformer.artefacts.bulk import score_lines
        from keras_transformer.export.runtime import load

        runtime = load(model, gives="text")
        file = stack.enter_context(output_file(output))
        show = stack.enter_context(progress("Scoring", console))
        task = show.add_task("", total=count)
        pairs = zip(read_lines(source), read_lines(target), strict=True)
        for scores in score_lines(
            runtime, pairs, batch_tokens, lambda n: show.update(task, advance=n)
        ):
            for value, length in zip(scores.scores, scores.tokens, strict=True):
                file.write(f"{value:.6f}\t{length}\n")
            truncated += [done + i + 1 for i in scores.truncated]
            done += len(scores.scores)
            total, tokens = total + sum(scores.scores), tokens + sum(scores.tokens)
    warn_of_cut(console, truncated, done)
    if tokens:
        console.print(f"{done:,} pairs, perplexity {math.exp(-total / tokens):.2f} a token")
