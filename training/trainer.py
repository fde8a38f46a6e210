"""A training run: from a run directory to trained weights in it."""

import dataclasses

import keras
from rich.console import Console

from keras_transformer.models import Transformer
from keras_transformer.training.callbacks import Checkpoint, Report, StopOnInterrupt, Validate
from keras_transformer.training.config import TrainingConfig, make_schedule
from keras_transformer.training.corpus_size import CorpusSize, measured
from keras_transformer.training.data import make_batches, make_training_batches
from keras_transformer.training.evaluation import Evaluator
from keras_transformer.training.journal import Journal
from keras_transformer.training.losses import CrossEntropy
from keras_transformer.training.metrics import TokenCount
from keras_transformer.training.run_directory import RunDirectory
from keras_transformer.training.schedules import paper_adam
from keras_transformer.translation import translate
from keras_transformer.translator import Translator

REPORT_EVERY = 50  # steps
SAMPLES_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Args:
        step: The number of updates made in all.
        best: Validation values of the best weights, with their step; empty if none was made.
        last: Validation values at the last validation.
        interrupted: Whether Ctrl-C ended it.
    """

    step: int
    best: dict[str, float]
    last: dict[str, float]
    interrupted: bool


def train(run: RunDirectory, console: Console | None = None) -> TrainingResult:
    """Train a run to the step its configuration asks for, from its newest checkpoint if any.

    Args:
        run: A run directory. Weights, checkpoints and reports are written into it.
        console: Where progress is shown; standard error if None.

    Returns:
        `TrainingResult`.

    Raises:
        InputError: If the data is missing or damaged, a checkpoint is damaged, the run has been
            trained that far already, or the loss is no longer finite.
    """
    console = console or Console(stderr=True)
    config = run.training_config()
    tokenizer = run.tokenizer()
    run.check_unfinished(config.steps)
    done = run.steps_done()
    keras.utils.set_random_seed(config.seed)
    model = Transformer(run.model_config())
    compile_model(model, config)
    state = run.checkpoints.restore(model) if done else {}

    sizes = run.sizes()
    size = measured(sizes, "training", config.train_files, tokenizer, config.batching)
    valid_size = measured(sizes, "validation", config.valid_files, tokenizer, config.batching)
    if sizes != run.sizes():
        run.save_sizes(sizes)
    _describe(console, model, "training", size)
    _describe(console, model, "validation", valid_size)

    journal = Journal(run.metrics_path, run.tensorboard_path)
    samples = run.samples()[:SAMPLES_SHOWN]
    translator = Translator(model, tokenizer)
    report = Report(config.steps, journal, min(REPORT_EVERY, config.validate_every), console)
    interrupt = StopOnInterrupt()
    validate = Validate(
        run,
        Evaluator(model, config.label_smoothing),
        make_batches(config.valid_files, tokenizer, config.batching),
        config,
        journal,
        console,
        lambda: (samples, translate(translator, samples).texts),
        report,
        state,
    )
    batches = make_training_batches(
        config.train_files,
        tokenizer,
        config.batching,
        config.seed,
        size,
        done,
        token_dropout=config.token_dropout,
        data_service=config.data_service,
    )
    try:
        model.fit(
            batches,
            steps_per_epoch=config.steps - done,
            shuffle=False,  # the data is shuffled already
            verbose=0,
            # Validation before the checkpoint, so that the checkpoint remembers it.
            callbacks=[
                report,
                validate,
                Checkpoint(run, config.checkpoint_every, state),
                interrupt,
            ],
        )
    finally:
        report.bar.stop()
        journal.close()
        interrupt.on_train_end()  # fit does not call it after an error
    return TrainingResult(
        int(model.optimizer.iterations),
        state.get("best", {}),
        state.get("last", {}),
        interrupt.interrupted,
    )


def compile_model(model: Transformer, config: TrainingConfig) -> None:
    """Compile a model with the paper's optimizer and loss, and the schedule asked for."""
    model.compile(
        paper_adam(
            make_schedule(config),
            global_clipnorm=config.clip_norm or None,
        ),
        loss=CrossEntropy(config.label_smoothing),
        metrics=[TokenCount()],
        # XLA compiles anew for every shape of a batch, which costs more than it gains.
        jit_compile=False,
    )


def _describe(console, model, name, size: CorpusSize):
    if name == "training":
        console.print(f"Model of {model.count_params():,} parameters")
    console.print(
        f"{name}: {size.pairs:,} pairs, {size.target_tokens:,} target tokens, "
        f"{size.batches:,} batches, {size.padding:.0%} padding"
    )
    if size.too_long:
        console.print(
            f"  left out: {size.too_long:,} pairs longer than --max-length tokens", style="yellow"
        )
    if size.empty:
        console.print(f"  left out: {size.empty:,} pairs with an empty side", style="yellow")
