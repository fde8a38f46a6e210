"""A training run: from a run directory to trained weights in it."""

import dataclasses
import signal

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from keras_transformer.errors import InputError
from keras_transformer.models import Transformer, attention_maps
from keras_transformer.models.config import BEGIN_ID
from keras_transformer.training.callbacks import (
    Checkpoint,
    Profile,
    Report,
    StopOnNaN,
    StopOnSignal,
    Validate,
    steps_made,
)
from keras_transformer.training.config import TrainingConfig, make_optimizer
from keras_transformer.training.corpus_size import CorpusSize, measured
from keras_transformer.training.data import make_batches, make_training_batches
from keras_transformer.training.distribution import (
    distribute_local_batches,
    has_other_workers,
    sum_over_workers,
    worker_index,
)
from keras_transformer.training.evaluation import Evaluator
from keras_transformer.training.files import remove_unfinished
from keras_transformer.training.journal import Journal
from keras_transformer.training.losses import CrossEntropy
from keras_transformer.training.memory import describe_memory, measured_peak
from keras_transformer.training.run_directory import RunDirectory
from keras_transformer.training.scheduled_sampling import ScheduledSampling
from keras_transformer.translation import translate
from keras_transformer.translator import Translator, append_end

REPORT_EVERY = 50  # steps
SAMPLES_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Args:
        step: The number of steps made in all.
        best: Validation values of the best weights, with their step; empty if none was made.
        last: Validation values at the last validation.
        signal: The signal that ended it before its last step, or None.
    """

    step: int
    best: dict[str, float]
    last: dict[str, float]
    signal: signal.Signals | None

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended it."""
        return self.signal is not None


def train(
    run: RunDirectory,
    console: Console | None = None,
    strategy: tf.distribute.Strategy | None = None,
    profile: tuple[int, int] | None = None,
) -> TrainingResult:
    """Train a run to the step its configuration asks for, from its newest checkpoint if any.

    Args:
        run: A run directory. Weights, checkpoints and reports are written into it, by the first
            worker where there are many; all of them have to see the folder.
        console: Where progress is shown; standard error if None.
        strategy: On which devices to train, from `make_strategy`; None for one device. The result
            is the same on any number of replicas; many workers read other parts of the text at the
            same time, so that their batches are others than those of one.
        profile: First and last step to record for TensorBoard's profiler.

    Returns:
        `TrainingResult`.

    Raises:
        InputError: If the data is missing or damaged, no checkpoint is whole, the run has been
            trained that far already, the gradient is no longer finite, or a tf.data service was
            started anew.
        tf.errors.OpError: Of many workers, if another was lost or told to stop by a signal; see
            `workers_lost`.
    """
    worker = worker_index(strategy)
    is_first = worker[0] == 0
    console = (console or Console(stderr=True)) if is_first else Console(quiet=True)
    strategy = strategy or tf.distribute.get_strategy()
    config = run.training_config()
    tokenizer = run.tokenizer()
    run.check_unfinished(config.steps)
    if is_first:
        remove_unfinished(run.path)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        model = Transformer(run.model_config(), dtype=config.precision)
        compile_model(model, config)
    state = run.checkpoints.restore(model) if run.checkpoints.all() else {}
    for path, problem in run.checkpoints.damaged.items():
        console.print(
            f"{path} is damaged ({problem}): going on from step {run.steps_done():,}",
            style="yellow",
        )
    done = steps_made(model)
    _check_same_step(strategy, done)

    batching = dataclasses.replace(
        config.batching, batch_tokens=config.batch_tokens // worker[1]
    )  # all workers together make a batch
    sizes = run.sizes()
    size = measured(sizes, "training", config.train_files, tokenizer, batching, worker)
    valid_size = measured(sizes, "validation", config.valid_files, tokenizer, config.batching)
    if is_first and sizes != run.sizes():
        run.save_sizes(sizes)
    _describe(console, model, "training", size)
    _describe(console, model, "validation", valid_size)
    describe_memory(console, run.model_config(), config, strategy)

    journal = Journal(run.metrics_path, run.tensorboard_path, done) if is_first else None
    report = Report(
        config.steps, journal, min(REPORT_EVERY, config.validate_every), console, batching, state
    )
    interrupt = StopOnSignal(strategy)
    validate = Validate(
        run,
        Evaluator(model, config.label_smoothing),
        make_batches(config.valid_files, tokenizer, config.batching),
        config,
        journal,
        console,
        _SampleShow(model, tokenizer, run.samples()[:SAMPLES_SHOWN]),
        report,
        state,
    )
    checkpoint = Checkpoint(run, config.checkpoint_every, config.keep_checkpoints, state)
    batches = make_training_batches(
        config.train_files,
        tokenizer,
        batching,
        config.seed,
        size,
        done,
        worker=worker,
        token_dropout=config.token_dropout,
        piece_dropout=config.piece_dropout,
        data_service=config.data_service,
    )
    try:
        model.fit(
            distribute_local_batches(batches, strategy),
            steps_per_epoch=config.steps - done,
            shuffle=False,  # the data is shuffled already
            verbose=0,
            callbacks=[
                StopOnNaN(lambda ids: _decode(tokenizer, ids)),
                report,
                validate,
                # After validation, so that the checkpoint remembers it.
                *([checkpoint] if is_first else []),
                *([Profile(*profile, run.tensorboard_path)] if profile and is_first else []),
                interrupt,
            ],
        )
    except tf.errors.NotFoundError as error:
        if config.data_service is None:
            raise
        raise InputError(
            f"The tf.data service at {config.data_service} was started anew and has forgotten this "
            f"run ({error.message}). Go on from the last checkpoint by --resume {run.path}."
        ) from None
    finally:
        report.bar.stop()
        if journal:
            journal.close()
        interrupt.on_train_end()  # fit does not call it after an error
    if interrupt.other_stopped:
        raise tf.errors.UnavailableError(
            None, None, "a signal told it to stop, and this step is saved"
        )
    console.print(measured_peak())
    return TrainingResult(
        steps_made(model), state.get("best", {}), state.get("last", {}), interrupt.signal
    )


def compile_model(model: Transformer, config: TrainingConfig) -> None:
    """Compile a model as a configuration says."""
    sampling = None
    if config.teacher_forcing < 1:
        sampling = ScheduledSampling(config.teacher_forcing, config.steps)
    model.compile(
        make_optimizer(config),
        loss=CrossEntropy(config.label_smoothing),
        accumulate=config.accumulate,
        prepare_inputs=sampling,
    )


class _SampleShow:
    """Shows what the model makes of a few sentences, and where its heads look meanwhile."""

    def __init__(self, model, tokenizer, samples):
        self.model = model
        self.tokenizer = tokenizer
        self.samples = samples
        self.translator = Translator(model, tokenizer)

    def __call__(self, journal, step):
        if not self.samples:
            return
        outputs = translate(self.translator, self.samples).texts
        journal.translations(step, self.samples, outputs)
        ids = self.tokenizer.tokenize([self.samples[0], outputs[0]])
        longest = self.model.config.max_length
        source = append_end(ids[:1].to_tensor(), longest)
        target = np.concatenate([[BEGIN_ID], ids[1].numpy()])[None, :longest].astype("int32")
        maps = attention_maps(self.model, {"source_ids": source, "target_ids": tf.constant(target)})
        journal.attention(step, maps, self._pieces(source[0]), self._pieces(target[0]))

    def _pieces(self, ids):
        return [self.tokenizer.vocabulary[int(i)] for i in ids]


def _decode(tokenizer, ids):
    inner = tf.ragged.boolean_mask(ids, ids > BEGIN_ID + 1)
    return [text.decode("utf-8", "replace") for text in tokenizer.detokenize(inner).numpy()]


def _check_same_step(strategy, step):
    """Make sure that all workers go on from one checkpoint."""
    if not has_other_workers(strategy):
        return

    if sum_over_workers(strategy, step) != step * strategy.num_replicas_in_sync:
        raise InputError(
            f"This worker goes on from step {step:,}, but others do not. The run has to be in a "
            "folder that all workers share."
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
