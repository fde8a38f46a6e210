"""The command that trains: `train`; those around it are in `cli_training_tools.py`."""

import contextlib
import glob
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from keras_transformer.cli.checks import check_files_exist
from keras_transformer.cli.recipe_option import Recipe
from keras_transformer.errors import InputError

RESTARTS = "KERAS_TRANSFORMER_RESTARTS"
MOST_RESTARTS = 20  # without progress

Strategy = Literal["auto", "single", "mirrored", "multiworker"]
Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
Optimizer = Literal["adam", "adamw", "adafactor"]
TokenizerName = Literal["wordpiece", "bert", "byte-pairs", "characters", "words"]
TaskName = Literal[
    "translation",
    "summarisation",
    "causal-lm",
    "masked-lm",
    "classification",
    "token-classification",
    "question-answering",
    "image-classification",
]


def train(
    recipe: Recipe = None,
    task: Annotated[TaskName, typer.Option(help="What the model is for.")] = "translation",
    source: Annotated[
        list[str] | None,
        typer.Option(help="Source text, plain or .gz, or a pattern in quotes; repeatable."),
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Target text, line by line; repeatable likewise.")
    ] = None,
    weight: Annotated[
        list[float] | None,
        typer.Option(help="Share of each --source in the pairs; by default as many as it has."),
    ] = None,
    valid_source: Annotated[Path | None, typer.Option(help="Source text to validate on.")] = None,
    valid_target: Annotated[Path | None, typer.Option(help="Target text to validate on.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Examples: a .tsv, .csv or .jsonl file, lines of text, or a pattern in quotes; "
            "for image-classification a folder with one of pictures for each label."
        ),
    ] = None,
    valid_data: Annotated[str | None, typer.Option(help="Examples to validate on.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(help="Run whose weights, model and vocabulary to begin with (fine-tuning)."),
    ] = None,
    freeze: Annotated[
        bool, typer.Option("--freeze", help="Train only what --init-from does not give.")
    ] = False,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this run, to the steps first asked for.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Number of updates in all.")] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the data, instead of --steps. [default: 10, with --init-from 3]"
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Model, such as small, bert-tiny or gpt2. [default: the task's]"),
    ] = None,
    tokenizer: Annotated[TokenizerName, typer.Option(help="Kind of the vocabulary.")] = "wordpiece",
    vocab: Annotated[
        Path | None,
        typer.Option(
            help="Vocabulary, or the run that has it; learned from the training text if not given."
        ),
    ] = None,
    vocab_size: Annotated[int, typer.Option(help="Pieces to learn.")] = 8000,
    split_digits: Annotated[bool, typer.Option(help="Learn digits as single pieces.")] = False,
    num_layers: Annotated[int | None, typer.Option(help="Layers, if not the preset's.")] = None,
    num_heads: Annotated[int | None, typer.Option(help="Attention heads, likewise.")] = None,
    d_model: Annotated[int | None, typer.Option(help="Width, likewise.")] = None,
    d_ff: Annotated[int | None, typer.Option(help="Feed-forward width, likewise.")] = None,
    dropout: Annotated[
        float | None,
        typer.Option(help="Dropout on sub-layers and embeddings, if not the preset's."),
    ] = None,
    embedding_dropout: Annotated[
        float | None, typer.Option(help="Dropout on embeddings, if not as --dropout.")
    ] = None,
    attention_dropout: Annotated[
        float | None, typer.Option(help="Dropout on attention weights, if not the preset's.")
    ] = None,
    ffn_dropout: Annotated[
        float | None, typer.Option(help="Dropout inside the feed-forward network, likewise.")
    ] = None,
    mask_rate: Annotated[
        float, typer.Option(help="Share of the tokens that masked-lm predicts.")
    ] = 0.15,
    pooling: Annotated[
        Literal["first", "mean", "mix"] | None,
        typer.Option(
            help="What classification reads: the first token's vector, the mean of all, or the "
            "mean of a mix of all layers."
        ),
    ] = None,
    token_dropout: Annotated[
        float, typer.Option(help="Probability that a token of the source becomes unknown.")
    ] = 0.0,
    piece_dropout: Annotated[
        float, typer.Option(help="Probability that a piece is missing when text is cut.")
    ] = 0.0,
    pre_norm: Annotated[
        bool | None,
        typer.Option("--pre-norm/--post-norm", help="Norm before each sub-layer, or after it."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="NAME=VALUE of another field of the model's configuration, such as "
            "positions=rotary or image_size=64; repeatable.",
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(help="Longest text in tokens. [default: what the model takes]"),
    ] = None,
    batch_tokens: Annotated[
        int, typer.Option(help="Tokens in one side of a batch, over all devices.")
    ] = 4096,
    accumulate: Annotated[
        int, typer.Option(help="Micro-batches that a batch is cut into, to save memory.")
    ] = 1,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Compute activations twice, to save memory.")
    ] = False,
    precision: Annotated[Precision, typer.Option(help="Precision of the computation.")] = "float32",
    strategy: Annotated[
        Strategy,
        typer.Option(
            help="single: one device. mirrored: all GPUs of this machine. multiworker: the "
            "machines that TF_CONFIG lists. auto: what there is."
        ),
    ] = "auto",
    data_service: Annotated[
        str | None, typer.Option(help="Where batches are made: grpc://HOST:PORT.")
    ] = None,
    optimizer: Annotated[
        Optimizer | None,
        typer.Option(help="The optimizer. [default: adam, with --init-from adamw]"),
    ] = None,
    weight_decay: Annotated[float, typer.Option(help="Weight decay of adamw.")] = 0.01,
    ema: Annotated[
        float, typer.Option(help="Decay of a moving average of the weights; 0 is off.")
    ] = 0.0,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Peak; by default the paper's for the model's width, with --init-from 5e-5."
        ),
    ] = None,
    warmup: Annotated[
        int | None, typer.Option(help="Warm-up steps. [default: a quarter of all, at most 4000]")
    ] = None,
    schedule: Annotated[
        Literal["inverse-square-root", "linear", "cosine", "one-cycle", "constant"] | None,
        typer.Option(
            help="After the warm-up; linear, cosine and one-cycle end near 0. [default: "
            "inverse-square-root, with --init-from linear]"
        ),
    ] = None,
    label_smoothing: Annotated[
        float | None,
        typer.Option(help="Share spread over all labels. [default: 0.1 from text to text, else 0]"),
    ] = None,
    clip_norm: Annotated[float, typer.Option(help="Global norm of gradients; 0 is off.")] = 1.0,
    teacher_forcing: Annotated[
        float,
        typer.Option(help="Share of true tokens in the decoder's input at the last step."),
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of weights, dropout and order.")] = 1,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="Refuse ops that may differ between two runs."),
    ] = False,
    validate_every: Annotated[
        int | None,
        typer.Option(help="Steps between validations. [default: a fifth of all, at most 1000]"),
    ] = None,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(help="Steps between checkpoints. [default: as --validate-every]"),
    ] = None,
    keep_checkpoints: Annotated[int, typer.Option(help="How many to keep.")] = 2,
    patience: Annotated[
        int, typer.Option(help="Stop after so many validations without a better one; 0 is off.")
    ] = 0,
    profile: Annotated[
        str | None, typer.Option(help="Steps to record for TensorBoard's profiler: FROM:TO.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a run in --output.")] = False,
) -> None:
    """Train a model on parallel text or on other examples, or go on with a run.

    The columns of --data are, by task: source and target; document and summary (summarisation);
    text (causal-lm, masked-lm); text and label (classification); words and labels
    (token-classification); question, passage and answer (question-answering).
    """
    parallel: dict[str, Any] = {
        "--source": source,
        "--target": target,
        "--valid-source": valid_source,
        "--valid-target": valid_target,
    }
    examples: dict[str, Any] = {"--data": data, "--valid-data": valid_data}
    if data or valid_data:
        if given := [name for name, value in parallel.items() if value]:
            raise InputError(f"Give --data or parallel text, not both: leave out {given[0]}.")
        needed = examples
    else:
        needed = parallel if task in ("translation", "summarisation") else examples
    texts = {**needed, "--output": output}
    if resume is not None:
        if any([*parallel.values(), *examples.values(), output, init_from]):
            raise InputError(
                "--resume takes its files and folder from the run; give --steps at most."
            )
        if recipe is not None:
            raise InputError("--resume takes its settings from the run; leave out --recipe.")
        if epochs is not None:
            raise InputError("--resume goes on to a number of --steps, not of --epochs.")
    elif missing := [name for name, value in texts.items() if not value]:
        raise InputError(f"{', '.join(missing)} is missing (or --resume a run).")
    if steps is not None and steps < 1:
        raise InputError(f"--steps must be at least 1, got {steps}.")
    steps_recorded = _parse_profile(profile)
    _check_patterns(*(source or []), *(target or []), *filter(None, examples.values()))
    check_files_exist(*(p for p in (valid_source, valid_target, vocab, init_from) if p))

    from keras_transformer.models.families import config_of_preset
    from keras_transformer.training.data.corpora import Corpus, ParallelFiles, make_corpus
    from keras_transformer.training.distribution import (
        all_agree,
        make_strategy,
        worker_index,
        workers_lost,
    )
    from keras_transformer.training.fields import parse_fields
    from keras_transformer.training.new_run import new_run
    from keras_transformer.training.run.run_directory import RunDirectory
    from keras_transformer.training.tasks.registry import find_training
    from keras_transformer.training.trainer import train as train_run

    console = _console()
    devices = make_strategy(strategy)
    folder = resume or output
    assert folder is not None  # checked above
    model = {
        "num_layers": num_layers,
        "num_heads": num_heads,
        "d_model": d_model,
        "d_ff": d_ff,
        "dropout": dropout,
        "embedding_dropout": dropout if embedding_dropout is None else embedding_dropout,
        "attention_dropout": attention_dropout,
        "ffn_dropout": ffn_dropout,
        "norm_first": pre_norm,
        "recompute": recompute or None,
        "max_length": None if init_from else max_length,  # what has positions keeps them
    }
    training = {
        "max_length": max_length,
        "mask_rate": mask_rate,
        "freeze": freeze,
        "batch_tokens": batch_tokens,
        "accumulate": accumulate,
        "precision": precision,
        "data_service": data_service,
        "token_dropout": token_dropout,
        "piece_dropout": piece_dropout,
        "optimizer": optimizer,
        "weight_decay": weight_decay,
        "ema": ema,
        "learning_rate": learning_rate,
        "warmup_steps": warmup,
        "schedule": schedule,
        "label_smoothing": label_smoothing,
        "clip_norm": clip_norm,
        "teacher_forcing": teacher_forcing,
        "seed": seed,
        "deterministic": deterministic,
        "validate_every": validate_every,
        "checkpoint_every": validate_every if checkpoint_every is None else checkpoint_every,
        "keep_checkpoints": keep_checkpoints,
        "patience": patience,
    }

    def set_up() -> None:
        if resume is not None:
            run = RunDirectory.open(resume)
            if steps is not None and steps != run.training_config().steps:
                run.extend(steps)
            return
        kind = (
            type(RunDirectory.open(init_from).model_config())
            if init_from
            else config_of_preset(preset or find_training(task).preset)
        )
        train_on: Corpus | Path
        validate_on: Corpus | Path
        if source and target and valid_source and valid_target:
            train_on = make_corpus(source, target, weight or None)
            validate_on = ParallelFiles(valid_source, valid_target)
        else:
            train_on, validate_on = Path(str(data)), Path(str(valid_data))
        new_run(
            folder,
            train_on,
            validate_on,
            task=task,
            preset=preset,
            init_from=init_from,
            steps=steps,
            epochs=epochs,
            tokenizer=tokenizer,
            vocabulary=vocab,
            vocabulary_size=vocab_size,
            split_digits=split_digits,
            overwrite=overwrite,
            model={
                **{k: v for k, v in model.items() if v is not None},
                **parse_fields("--set", kind, set_ or []),
            },
            head={} if pooling is None else {"pooling": pooling},
            training={k: v for k, v in training.items() if v is not None},
            console=console,
        )

    try:
        # The first worker writes the run; the others wait until it is there.
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
            result = train_run(run, console, devices, steps_recorded)
    except workers_lost(devices) as error:
        _start_again(folder, strategy, error, console)
        return
    if result.signal is not None:
        console.print(
            f"Stopped and saved at step {result.step:,}. Go on by: keras-transformer train "
            f"--resume {run.path}"
        )
        raise typer.Exit(128 + result.signal)
    console.print(f"{run.path}: trained to step {result.step:,}")


@contextlib.contextmanager
def _saying_how_to_go_on(run):
    """Say where a run stands that could not be written any further."""
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


def _start_again(folder, strategy, error, console) -> None:
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


def _parse_profile(text):
    if text is None:
        return None
    begin, colon, end = text.partition(":")
    if not (colon and begin.isdigit() and end.isdigit() and 1 <= int(begin) <= int(end)):
        raise InputError(f"--profile takes FROM:TO, two steps such as 10:12, got {text!r}.")
    return int(begin), int(end)


def _check_patterns(*patterns: str) -> None:
    """Refuse names and patterns that no file has, before TensorFlow is loaded."""
    for pattern in patterns:
        if not Path(pattern).exists() and not glob.glob(pattern):
            raise InputError(f"There is no file {pattern}.")


def _console() -> Console:
    return Console(stderr=True, soft_wrap=True, highlight=False)
