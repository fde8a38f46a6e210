"""The settings of a training run: one frozen dataclass, kept in the run directory."""

import dataclasses
import re
from pathlib import Path
from typing import Any

from keras_transformer.errors import InputError
from keras_transformer.training.data.batching import Batching
from keras_transformer.training.data.corpora import Corpus, ParallelFiles, make_corpus
from keras_transformer.training.optimizers import OPTIMIZERS
from keras_transformer.training.schedules import (
    Constant,
    InverseSquareRoot,
    LinearDecay,
    OneCycle,
    WarmupCosine,
)

SCHEDULES = ("inverse-square-root", "linear", "cosine", "one-cycle", "constant")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides how a model is trained.

    Raises:
        InputError: If a value is out of its range; the message names it.
    """

    source: str | list[str] | None  # parallel text, plain or gzip; patterns; a list for several
    target: str | list[str] | None
    valid_source: str | None
    valid_target: str | None
    steps: int  # number of updates
    learning_rate: float  # the highest, at the end of the warm-up
    warmup_steps: int
    schedule: str = "inverse-square-root"  # one of SCHEDULES
    optimizer: str = "adam"  # one of OPTIMIZERS
    weight_decay: float = 0.01  # of adamw
    ema: float = 0.0  # the validated and exported weights are averaged with this decay; 0 is off
    max_length: int = 256  # longest source or target in tokens, the end token included
    batch_tokens: int = 4096  # most tokens in one side of a batch, padding included
    label_smoothing: float = 0.1
    clip_norm: float = 1.0  # the global norm of the gradients is clipped to this; 0 is off
    accumulate: int = 1  # micro-batches that a batch is cut into on each device
    precision: str = "float32"  # one of PRECISIONS
    teacher_forcing: float = 1.0  # share of true tokens in the decoder's input at the last step
    deterministic: bool = False  # refuse every op whose result may differ between two runs
    seed: int = 1  # of the weights, of dropout and of the order of the data
    validate_every: int = 500  # steps
    checkpoint_every: int = 500  # steps
    keep_checkpoints: int = 2  # the newest; a second one is there if the last is damaged
    weights: list[float] | None = None  # share of each source in the pairs; None: as many as it has
    token_dropout: float = 0.0  # probability that a token of the source becomes unknown
    piece_dropout: float = 0.0  # probability that a piece is missing when training text is cut
    data_service: str | None = None  # tf.data service that makes the batches: grpc://host:port
    data: str | None = None  # examples in another form than parallel text: a file or a pattern
    valid_data: str | None = None
    mask_rate: float = 0.15  # share of the tokens that a masked language model is to predict
    freeze: bool = False  # train what is new only, not what a run that it began from has learned
    patience: int = 0  # stop after so many validations without a better one; 0 is off

    def __post_init__(self):
        """Refuse values that can't make a run."""
        for name in (
            "steps",
            "warmup_steps",
            "validate_every",
            "checkpoint_every",
            "keep_checkpoints",
            "batch_tokens",
            "accumulate",
        ):
            self._check(name, getattr(self, name) >= 1, "must be at least 1")
        for name, choices in (
            ("schedule", SCHEDULES),
            ("optimizer", tuple(OPTIMIZERS)),
            ("precision", PRECISIONS),
        ):
            self._check(
                name, getattr(self, name) in choices, f"must be one of {', '.join(choices)}"
            )
        if self.schedule not in ("inverse-square-root", "constant"):  # they end at the last step
            self._check("warmup_steps", self.warmup_steps < self.steps, "must be less than steps")
        self._check("weight_decay", self.weight_decay >= 0, "must be positive, or 0 for none")
        self._check("ema", 0 <= self.ema < 1, "must be in [0, 1)")
        self._check("teacher_forcing", 0 <= self.teacher_forcing <= 1, "must be in [0, 1]")
        self._check("learning_rate", self.learning_rate > 0, "must be positive")
        self._check("label_smoothing", 0 <= self.label_smoothing < 1, "must be in [0, 1)")
        self._check("clip_norm", self.clip_norm >= 0, "must be positive, or 0 for none")
        self._check("seed", 0 <= self.seed < 1 << 32, "must be from 0 to 4294967295")
        self._check("patience", self.patience >= 0, "must be positive, or 0 for none")
        self._check("mask_rate", 0 < self.mask_rate < 1, "must be between 0 and 1")
        for name in ("token_dropout", "piece_dropout"):
            self._check(name, 0 <= getattr(self, name) < 1, "must be in [0, 1)")
        self._check(
            "data_service",
            self.data_service is None or re.fullmatch(r"grpc://[^/]+:\d+", self.data_service),
            "must be an address such as grpc://host:5050",
        )
        if self.data is None:
            make_corpus(_as_list(self.source), _as_list(self.target), self.weights)  # if they fit
        Batching(self.batch_tokens, self.max_length)  # refuses a batch too small for a sentence

    def _check(self, name, holds, rule):
        if not holds:
            raise InputError(f"{name} {rule}, got {getattr(self, name)!r}.")

    @property
    def train_files(self) -> Corpus:
        """The parallel text to train on."""
        return make_corpus(_as_list(self.source), _as_list(self.target), self.weights)

    @property
    def valid_files(self) -> ParallelFiles:
        """The parallel text to validate on."""
        return ParallelFiles(Path(str(self.valid_source)), Path(str(self.valid_target)))

    @property
    def batching(self) -> Batching:
        """How pairs are put into batches."""
        return Batching(self.batch_tokens, self.max_length)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, ready for JSON."""
        return dataclasses.asdict(self)


def _as_list(names):
    return [names] if isinstance(names, str) else names or []


def make_schedule(config: TrainingConfig):
    """Make the learning-rate schedule that a configuration names."""
    peak, warmup, steps = config.learning_rate, config.warmup_steps, config.steps
    makers = {
        "inverse-square-root": lambda: InverseSquareRoot(peak, warmup),
        "linear": lambda: LinearDecay(peak, warmup, steps),
        "cosine": lambda: WarmupCosine(peak, warmup, steps),
        "one-cycle": lambda: OneCycle(peak, steps, warmup / steps),
        "constant": lambda: Constant(peak, warmup),
    }
    return makers[config.schedule]()


def make_optimizer(config: TrainingConfig):
    """Make the optimizer that a configuration names, with its schedule and its clipping."""
    options: dict[str, Any] = {"global_clipnorm": config.clip_norm or None}
    if config.optimizer == "adamw":
        options["weight_decay"] = config.weight_decay
    if config.ema:
        options |= {"use_ema": True, "ema_momentum": config.ema}
    return OPTIMIZERS[config.optimizer](make_schedule(config), **options)


def paper_peak(d_model: int) -> float:
    """Return the highest learning rate of the paper's schedule for a model of width D."""
    return (d_model * 4000) ** -0.5
