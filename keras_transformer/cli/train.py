"""The command that trains: `train`; those around it are in `training_tools.py`."""

import contextlib
import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from keras_transformer.cli.checks import check_files_exist
from keras_transformer.cli.options import with_options
from keras_transformer.cli.recipe_option import Config, Recipe
from keras_transformer.cli.terminal import make_console
from keras_transformer.errors import InputError
from keras_transformer.options import options_of
from keras_transformer.training.config import TrainingConfig
from keras_transformer.training.plan import Call, ModelOptions, Plan, check_task

if TYPE_CHECKING:
    from keras_transformer.training.run.run_directory import RunDirectory

RESTARTS = "KERAS_TRANSFORMER_RESTARTS"
MOST_RESTARTS = 20  # without progress
PARALLEL = ("source", "target", "valid_source", "valid_target")
EXAMPLES = ("data", "valid_data")


@with_options(call=Call, plan=Plan, training=TrainingConfig, model=ModelOptions)
def train(
    recipe: Recipe = None,
    config: Config = None,
    *,
    call: dict[str, Any],
    plan: dict[str, Any],
    training: dict[str, Any],
    model: dict[str, Any],
) -> None:
    """Train a model on text or pictures, or go on with a run.

    The columns of --data are, by task: source and target; document and summary (summarisation);
    text (causal-lm, masked-lm); text and label (classification); words and labels
    (token-classification); question, passage and answer (question-answering).
    """
    resume = call.get("resume")
    if resume is None:
        _check_new({**call, **plan, **training})
    else:
        _check_resume({**call, **plan, **training, **model}, recipe or config)
    steps = training.pop("steps", None)
    if steps is not None and steps < 1:
        raise InputError(f"--steps must be at least 1, got {steps}.")
    steps_recorded = _parse_profile(call.get("profile"))
    _check_files(plan, training)

    from keras_transformer.training.distribution import make_strategy, workers_lost

    folder, console = resume or call["output"], make_console()
    strategy = call.get("strategy", Call.strategy)
    devices = make_strategy(strategy)

    def set_up() -> None:
        if resume is None:
            _set_up(folder, steps, plan, training, model, call.get("settings", ()), console)
        else:
            _extend(folder, steps)

    try:
        result = _train(folder, set_up, console, devices, steps_recorded)
    except workers_lost(devices) as error:
        _start_again(folder, strategy, error, console)
        return
    if result.signal is not None:
        console.print(
            f"Stopped and saved at step {result.step:,}. Go on by: keras-transformer train "
            f"--resume {folder}"
        )
        raise typer.Exit(128 + result.signal)
    console.print(f"{folder}: trained to step {result.step:,}")


def _train(
    folder: Path,
    set_up: Callable[[], None],
    console: Console,
    devices: Any,
    steps_recorded: tuple[int, int] | None,
) -> Any:
    """Set a run up, by the first worker while the others wait, and train it."""
    from keras_transformer.training.distribution import all_agree, worker_index
    from keras_transformer.training.run.run_directory import RunDirectory
    from keras_transformer.training.trainer import train as train_run

    problem = None
    if worker_index(devices)[0] == 0:
        try:
            set_up()
        except InputError as error:
            problem = error
    if not all_agree(devices, problem is None):
        raise problem or InputError("The first worker could not set up the run; see there.")
    run = RunDirectory.open(folder)
    with _saying_how_to_go_on(run):
        return train_run(run, console, devices, steps_recorded)


def _check_new(given: dict[str, Any]) -> None:
    """Refuse a new run without text, or with too much."""
    given = {name: value for name, value in given.items() if value != ""}
    check_task(given.get("task", Plan.task))
    examples = any(name in given for name in EXAMPLES)
    parallel = not examples and given.get("task", Plan.task) in ("translation", "summarisation")
    wanted = list(PARALLEL if parallel else EXAMPLES)
    if examples and (others := [name for name in PARALLEL if name in given]):
        raise InputError(
            f"Give --data or parallel text, not both: leave out {_options(others[:1])}."
        )
    if "valid_split" in given:
        held_out = [name for name in wanted if name.startswith("valid_")]
        if others := [name for name in held_out if name in given]:
            raise InputError(
                "--valid-split takes what is validated on out of the text: leave it out, or "
                f"{_options(others)}."
            )
        wanted = [name for name in wanted if name not in held_out]
    if missing := [name for name in (*wanted, "output") if name not in given]:
        raise InputError(f"{_options(missing)} is missing (or --resume a run).")


def _check_resume(given: dict[str, Any], recipe: Any) -> None:
    """Refuse what a run that is there has decided."""
    if any(name in given for name in (*PARALLEL, *EXAMPLES, "output", "init_from")):
        raise InputError("--resume takes its files and folder from the run; give --steps at most.")
    if recipe is not None:
        raise InputError(
            "--resume takes its settings from the run; leave out --recipe and --config."
        )
    if "epochs" in given:
        raise InputError("--resume goes on to a number of --steps, not of --epochs.")
    if others := given.keys() - {"resume", "steps", "strategy", "profile"}:
        raise InputError(
            f"--resume takes its settings from the run; leave out {_options(sorted(others))}."
        )


def _options(fields: Iterable[str]) -> str:
    """Write the options of fields."""
    known: dict[str, Any] = {}
    for of in (Call, Plan, TrainingConfig, ModelOptions):
        known |= options_of(of)
    return ", ".join(known[field].written.split("/")[0] for field in fields)


def _check_files(plan: dict[str, Any], training: dict[str, Any]) -> None:
    """Refuse names that no file has, before TensorFlow is loaded."""
    for pattern in [
        *training.get("source", ()),
        *training.get("target", ()),
        *(training[name] for name in EXAMPLES if training.get(name)),
    ]:
        if not Path(pattern).exists() and not glob.glob(pattern):
            raise InputError(f"There is no file {pattern}.")
    given = {**plan, **training}
    names = ("valid_source", "valid_target", "vocabulary", "init_from")
    check_files_exist(*(given[name] for name in names if given.get(name)))


def _extend(folder: Path, steps: int | None) -> None:
    from keras_transformer.training.run.run_directory import RunDirectory

    run = RunDirectory.open(folder)
    if steps is not None and steps != run.training_config().steps:
        run.extend(steps)


def _set_up(
    folder: Path,
    steps: int | None,
    plan: dict[str, Any],
    training: dict[str, Any],
    model: dict[str, Any],
    settings: Sequence[str],
    console: Console,
) -> None:
    """Write the run."""
    from keras_transformer.models.families import config_of_preset
    from keras_transformer.options import parse_fields
    from keras_transformer.training.data.corpora import ParallelFiles, make_corpus
    from keras_transformer.training.new_run import new_run
    from keras_transformer.training.run.run_directory import RunDirectory
    from keras_transformer.training.tasks.registry import find_training

    init_from = plan.get("init_from")
    kind = (
        type(RunDirectory.open(init_from).model_config())
        if init_from
        else config_of_preset(
            plan.get("preset") or find_training(plan.get("task", Plan.task)).preset
        )
    )
    data = {name: training.pop(name, None) for name in (*PARALLEL, *EXAMPLES, "weights")}
    train_on, validate_on = data["data"], data["valid_data"]
    if data["source"]:
        train_on = make_corpus(data["source"], data["target"], data["weights"])
        valid = data["valid_source"], data["valid_target"]
        validate_on = ParallelFiles(*valid) if valid[0] else None
    if "dropout" in model:
        model.setdefault("embedding_dropout", model["dropout"])
    if "max_length" in training and not init_from:  # what has positions keeps them
        model["max_length"] = training["max_length"]
    if "validate_every" in training:
        training.setdefault("checkpoint_every", training["validate_every"])
    new_run(
        folder,
        train_on,
        validate_on,
        steps=steps,
        model={**model, **parse_fields("--set", kind, settings)},
        training=training,
        console=console,
        **plan,
    )


@contextlib.contextmanager
def _saying_how_to_go_on(run: "RunDirectory") -> Iterator[None]:
    """Explain where a run stands that could not be written any further."""
    from keras_transformer.files import storage_problem

    try:
        yield
    except Exception as error:
        if storage_problem(error) is None:
            raise
        where = str(error).split("\n", maxsplit=1)[0].removesuffix(".")
        done = run.steps_done()
        raise InputError(
            f"{where}. {run.path} is whole up to step {done:,}. Make room, and go on by: "
            f"keras-transformer train --resume {run.path}"
        ) from error


def _start_again(folder: Path, strategy: str, error: Exception, console: Console) -> None:
    """Put a new process in the place of this one, to join the others at the last checkpoint."""
    from keras_transformer.training.run.run_directory import RunDirectory

    reason = str(error).split("\n", maxsplit=1)[0][:300]
    is_set_up = (folder / "config.json").is_file()
    done = RunDirectory.open(folder).steps_done() if is_set_up else 0
    count, _, step = os.environ.get(RESTARTS, "").partition(":")
    number = 1 + (int(count) if step == str(done) else 0)  # since a step was last saved
    if not is_set_up or number > MOST_RESTARTS:
        raise InputError(f"Another worker was lost: {reason}")
    console.print(f"Another worker was lost ({reason}). Starting again from the last checkpoint.")
    os.environ[RESTARTS] = f"{number}:{done}"
    sys.stdout.flush()
    sys.stderr.flush()
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # or the old connections would live on
    command = [sys.executable, "-m", "keras_transformer", "train", "--resume", str(folder)]
    os.execv(sys.executable, [*command, "--strategy", strategy])


def _parse_profile(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    begin, colon, end = text.partition(":")
    if not (colon and begin.isdigit() and end.isdigit() and 1 <= int(begin) <= int(end)):
        raise InputError(f"--profile takes FROM:TO, two steps such as 10:12, got {text!r}.")
    return int(begin), int(end)
