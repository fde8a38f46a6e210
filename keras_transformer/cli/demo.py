"""`keras-transformer demo`: the whole way on text that this package generates.

The task is what a phone does after speech recognition: spoken English to written English, with
numbers, dates, times and money as people write them.
"""

import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from keras_transformer.cli.terminal import make_printer
from keras_transformer.errors import InputError

if TYPE_CHECKING:
    from keras_transformer.training.data.corpora import ParallelFiles
    from keras_transformer.training.data.spoken_english import Split
    from keras_transformer.training.run.run_directory import RunDirectory

SIZES: dict["Split", int] = {"train": 100_000, "validation": 500, "test": 500}
# Two layers and no regularisation: every sentence has one right answer, and the text is plentiful.
MODEL = {
    "num_layers": 2,
    "d_ff": 512,
    "dropout": 0.0,
    "embedding_dropout": 0.0,
    "norm_first": True,
    "max_length": 96,
}
TRAINING = {
    "batch_tokens": 1024,
    "learning_rate": 2e-3,
    "warmup_steps": 300,
    "schedule": "linear",
    "label_smoothing": 0.0,
    "validate_every": 600,
    "checkpoint_every": 3000,
}
STEPS = 3000
VOCABULARY_SIZE = 1500  # a piece a word; fewer if the text has no more


def demo(
    output: Annotated[Path, typer.Option(help="Folder for text, run and export.")] = Path(
        "runs/demo"
    ),
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier demo.")] = False,
) -> None:
    """Train, evaluate and export a small model on generated text."""
    run_demo(output, overwrite, make_printer())


def run_demo(output: Path, overwrite: bool, console: Console) -> None:
    """Generate text, train, export, run every artefact on the test set and show the result.

    Args:
        output: Folder for text, run and export.
        overwrite: Whether an earlier demo there may be replaced.
        console: Where to print.

    Raises:
        InputError: If the folder is not free.
    """
    output = Path(output)
    if output.is_file():
        raise InputError(f"{output} is a file; give the name of a folder.")
    if output.exists() and any(output.iterdir()) and not overwrite:
        raise InputError(f"{output} holds something already; add --overwrite to replace it.")
    begin = time.perf_counter()
    files = _write_text(output / "text", console)
    run = _train(output / "run", files, console)

    console.print("[bold]3. Export[/], each file proven in a fresh process")
    from keras_transformer.export import export_run

    exported = output / "export"
    shutil.rmtree(exported, ignore_errors=True)
    paths = export_run(run, exported, console, name="demo", max_quality_loss=2.0)

    console.print(f"[bold]4. The same {SIZES['test']} new sentences through all of them[/]")
    console.print(_compare(run, paths, files["test"]))
    console.print(f"Done in {(time.perf_counter() - begin) / 60:.1f} minutes. Try next:")
    console.print(
        f"  echo 'meet me at half past nine on may the fourth' | "
        f"{_command('keras-transformer')} translate --model {paths['tflite']}\n"
        f"  {_command('keras-transformer')} evaluate --model {run.path} "
        f"--source {files['test'].source} --target {files['test'].target}\n"
        f"  {_command('keras-transformer')} serve --model {exported} --name demo\n"
        f"  {_command('tensorboard')} --logdir {run.tensorboard_path}",
        markup=False,
        soft_wrap=True,
    )


def _write_text(folder: Path, console: Console) -> dict[str, "ParallelFiles"]:
    """Generate the text, and show some of it."""
    from keras_transformer.training.data import spoken_english
    from keras_transformer.training.data.corpora import ParallelFiles

    folder.mkdir(parents=True, exist_ok=True)
    spoken_english.write_corpus(folder, SIZES)
    files: dict[str, ParallelFiles] = {
        split: ParallelFiles(folder / f"{split}.spoken", folder / f"{split}.written")
        for split in SIZES
    }
    console.print(
        f"[bold]1. Text[/]: {SIZES['train']:,} generated sentences; numbers, dates and amounts of "
        "the test set never occur in them"
    )
    for spoken, written in zip(*_first_lines(files["test"], 3), strict=True):
        console.print(f"   {spoken}\n   -> {written}", markup=False)
    return files


def _train(folder: Path, files: Mapping[str, "ParallelFiles"], console: Console) -> "RunDirectory":
    """Set up the run and train it."""
    from keras_transformer.training.new_run import new_run
    from keras_transformer.training.trainer import train

    console.print("[bold]2. Training[/] from the spoken to the written form")
    run = new_run(
        folder,
        files["train"],
        files["validation"],
        preset="tiny",
        steps=STEPS,
        vocabulary_size=VOCABULARY_SIZE,
        split_digits=True,
        overwrite=True,
        model=MODEL,
        training=TRAINING,
        console=console,
    )
    if train(run, console).interrupted:
        command = _command("keras-transformer")
        console.print(f"Stopped and saved. Go on by: {command} train --resume {run.path}")
        raise SystemExit(130)
    return run


def _compare(run: "RunDirectory", paths: Mapping[str, Path], files: "ParallelFiles") -> Table:
    """Translate the test set by the run and by each artefact, and return a table."""
    from keras_transformer.artefacts.bulk import translate
    from keras_transformer.export.runtime import load
    from keras_transformer.files import read_lines
    from keras_transformer.training.evaluation.text_scores import score_texts

    sources, references = list(read_lines(files.source)), list(read_lines(files.target))
    table = Table("model", "exact match", "BLEU", "same text as Keras", "sentences/s")
    expected: list[str] = []
    for name, path in (
        ("Keras (run folder)", run.path),
        ("SavedModel", paths["savedmodel"]),
        (".tflite", paths["tflite"]),
        (".tflite in int8", paths["int8_tflite"]),
    ):
        runtime = load(path, gives="text")
        translate(runtime, sources[:1])  # the first call prepares the graph
        since = time.perf_counter()
        texts = translate(runtime, sources).texts
        seconds = time.perf_counter() - since
        expected = expected or texts
        scores = score_texts(texts, references)
        same = sum(a == b for a, b in zip(texts, expected, strict=True))
        table.add_row(
            name,
            f"{scores.exact_match:.1f} %",
            f"{scores.bleu:.1f}",
            f"{same} of {len(sources)}",
            f"{len(sources) / seconds:,.0f}",
        )
    return table


def _command(name: str) -> str:
    """Write a command as it can be typed: with its folder if the shell would not find it."""
    return name if shutil.which(name) else os.path.relpath(Path(sys.executable).with_name(name))


def _first_lines(files: "ParallelFiles", count: int) -> list[list[str]]:
    from itertools import islice

    from keras_transformer.files import read_lines

    return [list(islice(read_lines(path), count)) for path in (files.source, files.target)]
