"""The command that compares what a model answers with what is right: evaluate."""

import dataclasses
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.cli.checks import check_files_exist, check_model_exists
from keras_transformer.cli.columns import as_cell
from keras_transformer.cli.options import (
    BatchTokens,
    JitCompile,
    Model,
    with_generation_options,
)
from keras_transformer.cli.recipe_option import Config, Recipe
from keras_transformer.cli.terminal import make_console, progress
from keras_transformer.errors import InputError, no_such

if TYPE_CHECKING:
    from keras_transformer.artefacts.artefact import Artefact
    from keras_transformer.artefacts.text_to_text import TextToText
    from keras_transformer.training.data.corpora import ParallelFiles


@with_generation_options
def evaluate(
    model: Model,
    source: Annotated[Path | None, typer.Option(help="Source text, plain or .gz.")] = None,
    target: Annotated[Path | None, typer.Option(help="Reference text, line by line.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Examples in another form, as for `train --data`."),
    ] = None,
    recipe: Recipe = None,
    config: Config = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    lowercase: Annotated[bool, typer.Option(help="Ignore case.")] = False,
    tokenize: Annotated[
        str, typer.Option(help="sacrebleu's tokeniser: 13a, intl, zh, char or none.")
    ] = "13a",
    batch: Annotated[int, typer.Option(help="Number of examples at once.", min=1)] = 32,
    batch_tokens: BatchTokens = 1024,
    jit_compile: JitCompile = False,
    options: GenerationOptions | None = None,
) -> None:
    """Compare a model's answers with what is right.

    From text to text: BLEU, chrF and exact match. Labels: accuracy and F1. Answers: exact match and
    F1. Language models: perplexity, of a run.
    """
    check_model_exists(model)
    if (data is None) == (source is None) or (source is None) != (target is None):
        raise InputError("Give --source and --target, or --data.")
    check_files_exist(*(path for path in (source, target, data) if path))
    from keras_transformer.training.evaluation.text_scores import TOKENIZERS

    if tokenize not in TOKENIZERS:
        raise no_such("tokeniser", tokenize, TOKENIZERS)
    from keras_transformer.artefacts.artefact import sees
    from keras_transformer.export.runtime import load
    from keras_transformer.training.data.corpora import spooled

    with spooled(*(path for path in (source, target, data) if path)) as copies:
        if data is None:
            source, target = copies
        else:
            (data,) = copies
        if is_language_model(model):
            values = _evaluate_run(model, data)
        else:
            artefact: Any = load(model, options, jit_compile)
            gives = artefact.specs("pixels" if sees(artefact) else "serving_default")[1]
            if "text" in gives and "tokens" not in gives:
                _evaluate_text(
                    model, artefact, source, target, data, json_, lowercase, tokenize, batch_tokens
                )
                return
            values = _evaluate_examples(model, artefact, gives, data, batch)
    if json_:
        print(json.dumps(values))
        return
    by_label = values.pop("by_label", {})
    for name, value in values.items():
        if value is not None:
            shown = f"{value:8.4f}" if name in ("loss", "perplexity") else f"{100 * value:6.2f} %"
            print(f"{name.replace('_', ' '):15}{shown}")
    if by_label:
        print(f"\n{'label':15}precision  recall      F1   count")
        for label, score in by_label.items():
            shares = (f"{100 * score[name]:7.2f}" for name in ("precision", "recall", "f1"))
            print(f"{as_cell(label):15}  {' '.join(shares)} {score['count']:7,}")


def is_language_model(model: Path) -> bool:
    """Return whether a path is that of a run that is evaluated as it is trained."""
    from keras_transformer.training.run.run_directory import RunDirectory

    if not (model / "config.json").is_file():
        return False
    return RunDirectory.open(model).task_settings().task in ("causal-lm", "masked-lm")


def _evaluate_run(model: Path, data: Path | None) -> dict[str, Any]:
    """Compute the metrics of validation."""
    from keras_transformer.training.evaluation.of_examples import evaluate_run
    from keras_transformer.training.run.run_directory import RunDirectory

    if data is None:
        raise InputError(f"{model} is a language model: give its text by --data.")
    with make_console().status("Evaluating"):
        return evaluate_run(RunDirectory.open(model), data)


def _evaluate_examples(
    model: Path, artefact: "Artefact", gives: Collection[str], data: Path | None, batch: int
) -> dict[str, Any]:
    """Compare labels or answers."""
    from keras_transformer.training.evaluation import of_examples as evaluation

    by_output: dict[str, Callable[..., Any]] = {
        "label": evaluation.evaluate_labels,
        "labels": evaluation.evaluate_words,
        "answer": evaluation.evaluate_answers,
    }
    name = next((name for name in by_output if name in gives), None)
    if name is None:
        more = "; of a language model only a run can be evaluated" if "tokens" in gives else ""
        raise InputError(f"{model} gives {' and '.join(sorted(gives))}: nothing to compare{more}.")
    if data is None:
        raise InputError(f"{model} gives no text but {name}: give its examples by --data.")
    console = make_console()
    with progress("Evaluating", console) as show:
        task = show.add_task("", total=None)
        scores = by_output[name](artefact, data, batch, lambda n: show.update(task, advance=n))
    return dataclasses.asdict(scores)


def _evaluate_text(
    model: Path,
    runtime: "TextToText",
    source: Path | None,
    target: Path | None,
    data: Path | None,
    as_json: bool,
    lowercase: bool,
    tokenize: str,
    batch_tokens: int,
) -> None:
    """Compare what is written with references."""
    from keras_transformer.artefacts.bulk import translate as translate_texts
    from keras_transformer.files import read_lines
    from keras_transformer.training.data.corpora import ParallelFiles
    from keras_transformer.training.evaluation.text_scores import score_texts

    if "align" not in runtime.signatures:
        raise InputError(f"{model} goes on with text: only the run itself can be evaluated.")
    if data is not None:
        sources, references = _pairs(model, data)
        files = None
    else:
        assert source is not None and target is not None  # `evaluate` has checked it
        files = ParallelFiles(source, target)
        files.check()
        sources, references = list(read_lines(source)), list(read_lines(target))
    console = make_console()
    with console.status("Translating"):
        result = translate_texts(runtime, sources, batch_tokens)
        scores = score_texts(result.texts, references, lowercase, tokenize)
    if result.truncated:
        console.print(
            f"warning: {len(result.truncated):,} lines were longer than the model takes and were "
            "cut",
            style="yellow",
        )
    perplexity = None if files is None else _perplexity(model, runtime, files, console)
    if as_json:
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


def _pairs(model: Path, data: Path) -> tuple[list[str], list[str]]:
    """Read sources and references from a file of records."""
    from keras_transformer.training.data.records import Records
    from keras_transformer.training.run.run_directory import RunDirectory
    from keras_transformer.training.tasks.sequence_to_sequence import (
        SequenceToSequence,
        Summarisation,
    )

    kind = SequenceToSequence
    is_run = (model / "config.json").is_file()
    if is_run and RunDirectory.open(model).task_settings().task == "summarisation":
        kind = Summarisation
    records = Records(data, kind.columns)
    records.check()
    sources, references = zip(*records, strict=True)
    return list(sources), list(references)


def _perplexity(
    model: Path, runtime: Any, files: "ParallelFiles", console: Console
) -> float | None:
    """Compute the perplexity of the references if the model is a run that was trained here."""
    from keras_transformer.training.run.run_directory import RunDirectory

    if not (model / "config.json").is_file():
        return None
    run = RunDirectory.open(model)
    if not run.was_trained_here or run.training_config().source is None:
        return None
    from keras_transformer.training.data.parallel_text import make_batches, measure
    from keras_transformer.training.evaluation.evaluator import Evaluator

    batching = run.training_config().batching
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
