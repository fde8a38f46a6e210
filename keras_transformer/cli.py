"""The command `keras-transformer`.

Each command loads what it needs when it runs, so that `--help` and errors in arguments answer at
once. Bad input is printed without a traceback, and exits with status 2.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from keras_transformer.cli_checks import check_file_free, check_files_exist, check_model_exists
from keras_transformer.cli_training import average, data_service, memory, train, tune
from keras_transformer.errors import InputError

app = typer.Typer(
    name="keras-transformer",
    help="From text files to a Transformer that runs anywhere.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Model = Annotated[Path, typer.Option(help="A run folder, a SavedModel folder or a .tflite file.")]
LINES_AT_ONCE = 8192


def main() -> None:
    """Run the command line."""
    try:
        app()
    except InputError as error:
        _console().print(f"error: {error}", style="red", markup=False, highlight=False)
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
    from keras_transformer.text.learner import learn_vocabulary
    from keras_transformer.training.files import replacing
    from keras_transformer.training.text_files import read_lines

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


for command in (train, average, tune, memory, data_service):
    app.command()(command)


@app.command()
def translate(
    model: Model,
    input: Annotated[str, typer.Option(help="Text file, or - for standard input.")] = "-",
    output: Annotated[str, typer.Option(help="File to write, or - for standard output.")] = "-",
    batch_size: Annotated[int, typer.Option(help="Lines translated at once.", min=1)] = 32,
) -> None:
    """Translate text line by line."""
    check_model_exists(model)
    if input != "-":
        check_files_exist(Path(input))
    if output != "-":
        check_file_free(Path(output), overwrite=True)
    from contextlib import nullcontext

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from keras_transformer.export.runtime import load
    from keras_transformer.training.files import replacing
    from keras_transformer.training.text_files import read_lines
    from keras_transformer.translation import translate as translate_texts

    runtime = load(model)
    console = _console()
    lines = read_lines(input)
    truncated: list[int] = []
    done = 0
    show = Progress(
        "Translating",
        BarColumn(),
        MofNCompleteColumn(),
        "lines",
        _LineRate(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    place = nullcontext(None) if output == "-" else replacing(Path(output))
    with place as path, show:
        file = sys.stdout if path is None else path.open("w", encoding="utf-8", newline="\n")
        with nullcontext() if path is None else file:
            task = show.add_task("", total=0)
            while chunk := [line for _, line in zip(range(LINES_AT_ONCE), lines, strict=False)]:
                show.update(task, total=done + len(chunk))
                result = translate_texts(
                    runtime, chunk, batch_size, lambda n: show.update(task, advance=n)
                )
                file.writelines(f"{text}\n" for text in result.texts)
                truncated += [done + i + 1 for i in result.truncated]
                done += len(chunk)
    if truncated:
        some = ", ".join(map(str, truncated[:10])) + (", ..." if len(truncated) > 10 else "")
        console.print(
            f"warning: {len(truncated):,} of {done:,} lines were longer than the model takes and "
            f"were cut: {some}",
            style="yellow",
        )


@app.command()
def evaluate(
    model: Model,
    source: Annotated[Path, typer.Option(help="Source text, plain or .gz.")],
    target: Annotated[Path, typer.Option(help="Reference text, line by line.")],
    json_: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    lowercase: Annotated[bool, typer.Option(help="Ignore case.")] = False,
    tokenize: Annotated[
        str, typer.Option(help="sacrebleu's tokeniser: 13a, intl, zh, char or none.")
    ] = "13a",
    batch_size: Annotated[int, typer.Option(help="Lines translated at once.", min=1)] = 32,
) -> None:
    """Translate a text and compare the result with a reference."""
    check_model_exists(model)
    check_files_exist(source, target)
    from keras_transformer.training.text_metrics import TOKENIZERS, score_texts

    if tokenize not in TOKENIZERS:
        raise InputError(
            f"There is no tokeniser {tokenize!r}; choose one of {', '.join(TOKENIZERS)}."
        )
    from keras_transformer.training.text_files import ParallelFiles, read_lines

    files = ParallelFiles(source, target)
    files.check()
    from keras_transformer.export.runtime import load
    from keras_transformer.translation import translate as translate_texts

    runtime = load(model)
    console = _console()
    with console.status("Translating"):
        result = translate_texts(runtime, list(read_lines(source)), batch_size)
        scores = score_texts(result.texts, list(read_lines(target)), lowercase, tokenize)
    if result.truncated:
        console.print(
            f"warning: {len(result.truncated):,} lines were longer than the model takes and were "
            "cut",
            style="yellow",
        )
    perplexity = _perplexity(model, runtime, files, console)
    if json_:
        values = {
            "bleu": scores.bleu,
            "chrf": scores.chrf,
            "exact_match": scores.exact_match,
            "perplexity": perplexity,
        }
        print(json.dumps(values))
        return
    print(f"BLEU         {scores.bleu:6.2f}   {scores.bleu_signature}")
    print(f"chrF         {scores.chrf:6.2f}   {scores.chrf_signature}")
    print(f"exact match  {scores.exact_match:6.2f} %")
    print(
        f"perplexity   {perplexity:6.2f}   a token, without label smoothing"
        if perplexity is not None
        else "perplexity        -   only a run can give it, of pairs that are not too long"
    )


def _perplexity(model: Path, runtime, files, console) -> float | None:
    """Compute the perplexity of the references if the model is a run."""
    from keras_transformer.training.run_directory import RunDirectory

    if not (model / "config.json").is_file():
        return None
    from keras_transformer.training.corpus_size import measure
    from keras_transformer.training.data import make_batches
    from keras_transformer.training.evaluation import Evaluator

    batching = RunDirectory.open(model).training_config().batching
    tokenizer = runtime.tokenizer
    try:
        size = measure(files, tokenizer, batching)
    except InputError as error:  # no pair can be used; the other scores stand
        console.print(f"warning: no perplexity: {error}", style="yellow", markup=False)
        return None
    if left_out := size.too_long + size.empty:
        console.print(
            f"warning: perplexity leaves out {left_out:,} pairs that are too long or empty",
            style="yellow",
        )
    return Evaluator(runtime.model)(make_batches(files, tokenizer, batching))["perplexity"]


@app.command()
def export(
    model: Annotated[Path, typer.Option(help="A run folder.")],
    output: Annotated[Path, typer.Option(help="Folder to write.")],
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier export.")] = False,
) -> None:
    """Export a run as a SavedModel and as .tflite files, proven against the model."""
    if not model.is_dir():
        raise InputError(f"There is no folder {model}.")
    from keras_transformer.export.bundle import export_run
    from keras_transformer.training.run_directory import RunDirectory

    export_run(RunDirectory.open(model), output, overwrite, _console())


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for text, run and export.")] = Path(
        "runs/demo"
    ),
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier demo.")] = False,
) -> None:
    """Train, evaluate and export a small model on text that this package generates."""
    from keras_transformer.demo import run_demo

    run_demo(output, overwrite, Console(highlight=False, soft_wrap=True))


@app.command()
def doctor() -> None:
    """Show versions and devices, what is missing, and how to get it."""
    from keras_transformer.doctor import report

    raise typer.Exit(report(Console(highlight=False)))


def _LineRate():
    from rich.progress import ProgressColumn
    from rich.text import Text

    class LineRate(ProgressColumn):
        def render(self, task) -> Text:
            return Text(f"{task.completed / (task.elapsed or 1):,.1f}/s")

    return LineRate()


if __name__ == "__main__":
    main()
