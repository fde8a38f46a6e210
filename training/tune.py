"""Choosing hyper-parameters by experiment: a grid search over runs.

tune.json    what was asked for, and the results, the best first
000/ 001/    one run a point of the grid, all with the same vocabulary
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table

from keras_transformer.errors import InputError
from keras_transformer.files import replacing, write_json
from keras_transformer.locks import locked
from keras_transformer.models import TransformerConfig
from keras_transformer.options import kinds_of, parse_value, split_specs
from keras_transformer.training.config import TrainingConfig
from keras_transformer.training.data.corpora import ParallelFiles
from keras_transformer.training.new_run import new_run
from keras_transformer.training.run.checkpoints import Checkpoints
from keras_transformer.training.run.run_directory import RunDirectory
from keras_transformer.training.trainer import train as train_run

# These are the same at every point: given by other arguments, or learned from the text.
FIXED = {"vocabulary_size", "steps", "weights"} | {
    f"{part}{name}" for part in ("", "valid_") for name in ("source", "target", "data", "split")
}

Point: TypeAlias = dict[str, dict[str, Any]]  # fields of the model and of the training, by name


@dataclasses.dataclass(frozen=True)
class TuneResult:
    """The result of one point of the grid.

    Args:
        folder: Its run.
        settings: What was set at this point, by name.
        best: Validation values of the best weights, with their step; empty if there are none.
        error: Why training ended early, such as a loss that is no longer finite; else empty.
    """

    folder: Path
    settings: dict[str, Any]
    best: dict[str, float]
    error: str = ""


def grid_points(specs: Sequence[str]) -> list[Point]:
    """Make every combination of the values in specifications such as `num_layers=2,4`.

    Args:
        specs: One a name, each a field of `TransformerConfig` or `TrainingConfig` with its values.
            `max_length`, which both have, is set in both.

    Returns:
        For each point what it sets in the two: `{"model": {...}, "training": {...}}`. The last
        name varies fastest.

    Raises:
        InputError: If there is no specification, a name is unknown or given twice, or a value is
            not of the field's type.
    """
    configs = {"training": TrainingConfig, "model": TransformerConfig}
    kinds = {part: kinds_of(config, FIXED) for part, config in configs.items()}
    if not specs:
        raise InputError("Give at least one --grid, such as --grid learning_rate=1e-3,2e-3.")
    known = {**kinds["model"], **kinds["training"]}
    values = {
        name: list(
            dict.fromkeys(
                parse_value("--grid", name, known[name], text.strip()) for text in texts.split(",")
            )
        )
        for name, texts in split_specs("--grid", specs, known, "NAME=VALUE,VALUE")
    }
    return [
        {
            part: {name: value for name, value in point if name in kinds[part]}
            for part in ("model", "training")
        }
        for point in (
            tuple(zip(values, choice, strict=True))
            for choice in itertools.product(*values.values())
        )
    ]


def tune(
    output: Path | str,
    train: ParallelFiles,
    valid: ParallelFiles,
    points: Sequence[Point],
    *,
    steps: int,
    console: Console | None = None,
    **new_run_options: Any,
) -> list[TuneResult]:
    """Train a run at every point of a grid, and compare their validation losses.

    All runs are set up before the first is trained, so that a value out of range is found at
    once. After Ctrl-C, or if the machine stopped, the same call goes on where it was.

    Args:
        output: Folder of the search.
        train: The text to train on.
        valid: The text to validate on.
        points: As `grid_points` makes them.
        steps: Number of updates of each run.
        console: Where progress is shown; standard error if None.
        **new_run_options: Everything else that `new_run` takes. Its `model` and `training` hold
            for all points, which may set them otherwise.

    Returns:
        The results of the points that were reached, the lowest validation loss first. Where
        `label_smoothing` differs, losses can't be compared, and perplexity decides, which is
        always without it.

    Raises:
        InputError: If anything is missing, damaged or out of range, or `output` holds something
            else or another process writes it. Nothing has been written then.
    """
    console = console or Console(stderr=True)
    output = Path(output)
    with locked(output, "tuning"):
        return _tune(output, train, valid, points, steps, console, new_run_options)


def _tune(
    output: Path,
    train: ParallelFiles,
    valid: ParallelFiles,
    points: Sequence[Point],
    steps: int,
    console: Console,
    new_run_options: dict[str, Any],
) -> list[TuneResult]:
    plan = _as_json(
        {
            "train": [train.source.resolve(), train.target.resolve()],
            "valid": [valid.source.resolve(), valid.target.resolve()],
            "steps": steps,
            "options": new_run_options,
            "points": points,
        }
    )
    if output.is_dir() and any(output.iterdir()):
        _check_same_plan(output, plan)
    else:
        with replacing(output) as new:
            _set_up(new, train, valid, points, {"console": console, **new_run_options}, steps)
            write_json(new / "tune.json", {**plan, "results": []})

    results: list[TuneResult] = []
    for number, point in enumerate(points):
        run = RunDirectory.open(output / f"{number:03}")
        settings = {**point["training"], **point["model"]}
        named = ", ".join(f"{name} {_show(value)}" for name, value in settings.items())
        console.print(f"point {number + 1}/{len(points)}: {named}")
        error = ""
        if not _finished(run):
            try:
                train_run(run, console)
            except InputError as failure:  # the data was in order, so it is the loss
                error = str(failure)
                console.print(error, style="yellow")
            if not error and not _finished(run):
                console.print("Interrupted. The same command goes on from here.")
                break
        results.append(TuneResult(run.path, settings, _state(run).get("best", {}), error))
        results.sort(key=lambda result: result.best.get(_criterion(points), math.inf))
        found = [{**dataclasses.asdict(r), "folder": r.folder.name} for r in results]
        write_json(output / "tune.json", {**plan, "results": found})
    return results


def table(results: Sequence[TuneResult]) -> Table:
    """Show results as a table, in their order."""
    shown = Table(title="Validation")
    names = list(results[0].settings) if results else []
    for name in names:
        shown.add_column(name)
    for name in ("loss", "perplexity", "token accuracy", "best step"):
        shown.add_column(name, justify="right")
    shown.add_column("run")
    for result in results:
        best = result.best
        values = (
            (
                f"{best['loss']:.4f}",
                f"{best['perplexity']:.2f}",
                f"{best['token_accuracy']:.1%}",
                f"{best['step']:,}",
            )
            if best
            else ("none", "", "", "")
        )
        note = f"{result.folder} (stopped early by an error)" if result.error else result.folder
        shown.add_row(*(_show(result.settings[name]) for name in names), *values, str(note))
    return shown


def _set_up(
    folder: Path,
    train: ParallelFiles,
    valid: ParallelFiles,
    points: Sequence[Point],
    options: dict[str, Any],
    steps: int,
) -> None:
    """Make the runs of all points. The first learns the vocabulary of all, unless one is given."""
    folder.mkdir()
    for number, point in enumerate(points):
        if number and options.get("vocabulary") is None:
            options = {**options, "vocabulary": folder / "000" / "vocab.txt"}
        new_run(
            folder / f"{number:03}",
            train,
            valid,
            **{
                **options,
                "steps": steps,
                "model": {**(options.get("model") or {}), **point["model"]},
                "training": {**(options.get("training") or {}), **point["training"]},
            },
        )


def _check_same_plan(output: Path, plan: dict[str, Any]) -> None:
    """Make sure that what is in the folder is the same search, to go on with."""
    path = output / "tune.json"
    if not path.is_file():
        raise InputError(f"{output} exists and is not a search; choose another output folder.")
    try:
        found = json.loads(path.read_text("utf-8"))
        other = [name for name in plan if found[name] != plan[name]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: {error!r}.") from None
    if other:
        raise InputError(
            f"{output} holds a search with other {', '.join(other)}; choose another output folder."
        )


def _criterion(points: Sequence[Point]) -> str:
    smoothings = {point["training"].get("label_smoothing") for point in points}
    return "loss" if len(smoothings) == 1 else "perplexity"


def _state(run: RunDirectory) -> dict[str, Any]:
    """Return what the newest checkpoint remembers of the validations."""
    newest = run.checkpoints.newest()
    return json.loads((newest / Checkpoints.STATE).read_text("utf-8")) if newest else {}


def _finished(run: RunDirectory) -> bool:
    config = run.training_config()
    stopped_early = 0 < config.patience <= _state(run).get("bad", 0)
    return stopped_early or run.steps_done() >= config.steps


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    """Return what JSON makes of a value: lists for tuples, text for paths."""
    return json.loads(json.dumps(value, default=str))


def _show(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
