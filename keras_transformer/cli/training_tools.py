"""The commands around training: average, tune, data-service."""

import threading
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from keras_transformer.cli.checks import check_files_exist
from keras_transformer.cli.options import with_options
from keras_transformer.cli.terminal import make_console, make_printer
from keras_transformer.training.plan import Plan


def average(
    model: Annotated[Path, typer.Option(help="A run, trained with --keep-checkpoints.")],
    output: Annotated[Path, typer.Option(help="Folder of the new run.")],
    last: Annotated[
        int | None, typer.Option(help="How many of the newest checkpoints; all by default.")
    ] = None,
) -> None:
    """Average a run's newest checkpoints into a new run."""
    check_files_exist(model)
    from keras_transformer.training.run.averaging import average_run
    from keras_transformer.training.run.run_directory import RunDirectory

    run = average_run(RunDirectory.open(model), output, last)
    make_console().print(f"{run.path}: averaged; translate, evaluate and export take it")


@with_options(plan=(Plan, ("vocabulary", "vocabulary_size")))
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
    *,
    plan: dict[str, Any],
) -> None:
    """Train a run at every point of a grid, and rank them.

    The grid is every combination of the settings. The best has the lowest validation loss. After
    Ctrl-C the same command goes on where it was.
    """
    check_files_exist(source, target, valid_source, valid_target)
    from keras_transformer.training import tune as tuning
    from keras_transformer.training.data.corpora import ParallelFiles

    results = tuning.tune(
        output,
        ParallelFiles(source, target),
        ParallelFiles(valid_source, valid_target),
        tuning.grid_points(grid),
        steps=steps,
        console=make_console(),
        preset=preset,
        **{"vocabulary": None, "vocabulary_size": Plan.vocabulary_size, **plan},
    )
    make_printer().print(tuning.table(results))


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
    """Run a part of a tf.data service, which makes batches.

    `train --data-service` takes them from it.
    """
    from keras_transformer.training.data.data_service import serve

    server = serve(kind, port, dispatcher, host)
    listens = server.target.rpartition(":")[2] if kind == "dispatcher" else port
    make_console().print(f"{kind} listens on port {listens}; Ctrl-C ends it")
    try:
        threading.Event().wait()  # the server's join() would not notice Ctrl-C
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        del server  # which ends it
