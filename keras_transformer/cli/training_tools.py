"""The commands around training: `average`, `tune`, `memory` and `data-service`."""

import threading
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from keras_transformer.cli.checks import check_files_exist
from keras_transformer.cli.train import Optimizer, Precision


def average(
    model: Annotated[Path, typer.Option(help="A run, trained with --keep-checkpoints.")],
    output: Annotated[Path, typer.Option(help="Folder of the new run.")],
    last: Annotated[
        int | None, typer.Option(help="How many of the newest checkpoints; all by default.")
    ] = None,
) -> None:
    """Average the weights of a run's newest checkpoints into a new run."""
    check_files_exist(model)
    from keras_transformer.training.run.averaging import average_run
    from keras_transformer.training.run.run_directory import RunDirectory

    run = average_run(RunDirectory.open(model), output, last)
    _console().print(f"{run.path}: averaged; translate, evaluate and export take it")


def tune(
    source: Annotated[Path, typer.Option(help="Source text, plain or .gz.")],
    target: Annotated[Path, typer.Option(help="Target text, line by line.")],
    valid_source: Annotated[Path, typer.Option(help="Source text to validate on.")],
    valid_target: Annotated[Path, typer.Option(help="Target text to validate on.")],
    output: Annotated[Path, typer.Option(help="Folder of the search.")],
    grid: Annotated[
        list[str],
        typer.Option(
            help="NAME=VALUE,VALUE of a field of the configuration, such as "
            "learning_rate=1e-3,2e-3 or num_layers=2,4; repeatable, for all combinations."
        ),
    ],
    steps: Annotated[int, typer.Option(help="Number of updates of each run.", min=1)] = 1000,
    preset: Annotated[str, typer.Option(help="Model: tiny, small, base or big.")] = "tiny",
    vocab: Annotated[
        Path | None, typer.Option(help="Vocabulary; learned from the training text if not given.")
    ] = None,
    vocab_size: Annotated[int, typer.Option(help="Pieces to learn.")] = 8000,
) -> None:
    """Train a run for every combination of settings, and rank them by validation loss."""
    check_files_exist(source, target, valid_source, valid_target)
    from keras_transformer.training import tune as tuning
    from keras_transformer.training.data.corpora import ParallelFiles

    results = tuning.tune(
        output,
        ParallelFiles(source, target),
        ParallelFiles(valid_source, valid_target),
        tuning.grid_points(grid),
        steps=steps,
        console=_console(),
        preset=preset,
        vocabulary=vocab,
        vocabulary_size=vocab_size,
    )
    Console(soft_wrap=True, highlight=False).print(tuning.table(results))


def memory(
    preset: Annotated[str, typer.Option(help="Model: tiny, small, base or big.")] = "tiny",
    vocab_size: Annotated[int, typer.Option(help="Pieces in the vocabulary.", min=4)] = 8000,
    batch_tokens: Annotated[
        int, typer.Option(help="Tokens in one side of a batch on one device.", min=1)
    ] = 4096,
    length: Annotated[int, typer.Option(help="Tokens in each row.", min=1)] = 64,
    precision: Annotated[Precision, typer.Option(help="Precision of the computation.")] = "float32",
    optimizer: Annotated[Optimizer, typer.Option(help="The optimizer.")] = "adam",
    ema: Annotated[bool, typer.Option("--ema", help="Keep a moving average.")] = False,
    accumulate: Annotated[int, typer.Option(help="Number of micro-batches in a batch.", min=1)] = 1,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Compute activations twice, to save memory.")
    ] = False,
) -> None:
    """Show by formula what a training step needs, and what each technique saves."""
    from keras_transformer.models.config import TransformerConfig
    from keras_transformer.training.memory import count_parameters, memory_table

    config = TransformerConfig.preset(preset, vocab_size, recompute=recompute)
    rows = max(1, batch_tokens // length)
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{preset}: {count_parameters(config):,} parameters, {rows} rows of {length} tokens"
    )
    console.print(
        memory_table(
            config,
            rows,
            length,
            precision=precision,
            optimizer=optimizer,
            ema=ema,
            accumulate=accumulate,
        )
    )


def data_service(
    kind: Annotated[
        Literal["dispatcher", "worker"], typer.Option(help="Which part of the service to run.")
    ],
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)],
    dispatcher: Annotated[
        str | None, typer.Option(help="A worker's dispatcher: grpc://HOST:PORT.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="A worker's name for the trainers, if not this machine's.")
    ] = None,
) -> None:
    """Run a part of a tf.data service, which makes batches for `train --data-service`."""
    from keras_transformer.training.data.data_service import serve

    server = serve(kind, port, dispatcher, host)
    listens = server.target.rpartition(":")[2] if kind == "dispatcher" else port
    _console().print(f"{kind} listens on port {listens}; Ctrl-C ends it")
    try:
        threading.Event().wait()  # the server's join() would not notice Ctrl-C
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        del server  # which ends it


def _console() -> Console:
    return Console(stderr=True, soft_wrap=True, highlight=False)
