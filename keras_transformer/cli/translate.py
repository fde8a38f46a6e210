"""The commands that use a trained model: translate, score, evaluate, attention, export."""

import contextlib
import dataclasses
import functools
import inspect
import json
import math
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.cli.checks import check_file_free, check_files_exist, check_model_exists
from keras_transformer.cli.columns import as_cell, as_line
from keras_transformer.cli.recipe_option import Recipe
from keras_transformer.errors import InputError

Model = Annotated[Path, typer.Option(help="A run folder, a SavedModel folder or a .tflite file.")]
BatchTokens = Annotated[
    int, typer.Option(help="Source tokens translated at once, padding included.", min=1)
]
JitCompile = Annotated[
    bool, typer.Option("--jit-compile", help="Compile the model of a run by XLA.")
]

# What --help says of each field of GenerationOptions.
HELP = {
    "beam_size": "Hypotheses kept in beam search; 1 is greedy search.",
    "num_hypotheses": "Outputs a line, best first.",
    "length_penalty": "Exponent a of ((5 + n) / 6)^a, which beam search divides scores by.",
    "temperature": "Sample, from logits divided by this; 0 takes the likeliest.",
    "top_k": "Sample from this many tokens; 0 for all.",
    "top_p": "Sample from the likeliest tokens that together have this probability.",
    "min_p": "Sample from tokens at least this share as likely as the likeliest.",
    "seed": "The same seed and line give the same sample.",
    "min_length": "Fewest tokens of an output, the end included.",
    "max_length": "Most tokens; by default 50 more than the source has.",
    "repetition_penalty": "Multiplies log-probabilities of tokens that occurred before.",
    "no_repeat_ngram": "No sequence of this many tokens occurs twice; 0 for any.",
}


def with_generation_options(command):
    """Give a command an option for each field of `GenerationOptions`.

    The command gets them together as `options`: None where none was given.
    """
    fields = dataclasses.fields(GenerationOptions)

    @functools.wraps(command)
    def wrapped(**arguments):
        values = {field.name: arguments.pop(field.name) for field in fields}
        options = GenerationOptions(**values)
        return command(**arguments, options=None if options == GenerationOptions() else options)

    own = inspect.signature(command).parameters.values()
    more = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=Annotated[field.type, typer.Option(help=HELP[field.name])],
        )
        for field in fields
    ]
    parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in own if p.name != "options"] + more
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapped


@with_generation_options
def translate(
    model: Model,
    input: Annotated[str, typer.Option(help="Text file, or - for standard input.")] = "-",
    output: Annotated[str, typer.Option(help="File to write, or - for standard output.")] = "-",
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
    stream: Annotated[
        bool, typer.Option("--stream", help="Show text while it is written.")
    ] = False,
    jit_compile: JitCompile = False,
    options=None,
) -> None:
    """Translate text line by line.

    With several hypotheses, each output line holds the number of the input line, the score and the
    text, with tabs between. A line break in a text is written as a space.
    """
    check_model_exists(model)
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
    from keras_transformer.artefacts.bulk import translate_lines
    from keras_transformer.export.runtime import load
    from keras_transformer.files import read_lines
    from keras_transformer.training.data.corpora import count_lines, spooled

    runtime = load(model, options, jit_compile, gives="text")
    console = _console()
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
            input, prefix = copies
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


def _keep(lines, kept):
    """Pass lines on, and keep them until somebody clears the list."""
    for line in lines:
        kept.append(line)
        yield line


def _stream(runtime, lines):
    for line in lines:
        for piece in runtime.stream(line):
            print(piece, end="", flush=True)
        print(flush=True)


def _alignments(runtime, lines, result):
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
    output: Annotated[str, typer.Option(help="File to write, or - for standard output.")] = "-",
    batch_tokens: BatchTokens = 1024,
) -> None:
    """Say how likely given targets are.

    Each output line holds the log-probability of a target and its number of tokens, the end
    included, with a tab between.
    """
    check_model_exists(model)
    check_files_exist(source, target)
    if output != "-":
        check_file_free(Path(output), overwrite=True)
    from keras_transformer.files import read_lines
    from keras_transformer.training.data.corpora import ParallelFiles, spooled

    console = _console()
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


@with_generation_options
def export(
    model: Annotated[Path, typer.Option(help="A run folder.")],
    output: Annotated[
        Path, typer.Option(help="Folder to write; an export there gets another version.")
    ],
    recipe: Recipe = None,
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
    options=None,
) -> None:
    """Export a run for TensorFlow Serving and for phones, proven against the model.

    The options of generation become part of the files.
    """
    if not model.is_dir():
        raise InputError(f"There is no folder {model}.")
    precisions = tflite.split(",")
    if unknown := set(precisions) - {"float32", "float16", "int8"}:
        raise InputError(
            f"There is no precision {sorted(unknown)[0]!r} for --tflite; choose among float32, "
            "float16 and int8."
        )
    from keras_transformer.export import export_run
    from keras_transformer.training.run.run_directory import RunDirectory

    export_run(
        RunDirectory.open(model),
        output,
        _console(),
        options,
        jit_compile=jit_compile,
        name=name,
        keep=keep,
        precisions=precisions,
        max_quality_loss=max_quality_loss,
        source_language=source_language,
        target_language=target_language,
    )


@contextlib.contextmanager
def output_file(name):
    """Open a file that gets its name when all of it is written, or standard output for -."""
    if name == "-":
        yield sys.stdout
        return
    from keras_transformer.files import replacing

    with replacing(Path(name)) as new, new.open("w", encoding="utf-8", newline="\n") as file:
        yield file


def progress(title, console):
    """Return a bar that shows lines done, lines a second and the time left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class LineRate(ProgressColumn):
        def render(self, task) -> Text:
            return Text(f"{task.completed / (task.elapsed or 1):,.1f}/s")

    return Progress(
        title,
        BarColumn(),
        MofNCompleteColumn(),
        "lines",
        LineRate(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def warn_of_cut(console, truncated, done):
    """Name the lines that were longer than the model takes."""
    if truncated:
        some = ", ".join(map(str, truncated[:10])) + (", ..." if len(truncated) > 10 else "")
        console.print(
            f"warning: {len(truncated):,} of {done:,} lines were longer than the model takes and "
            f"were cut: {some}",
            style="yellow",
        )


def _console() -> Console:
    return Console(stderr=True, soft_wrap=True, highlight=False)
