"""The settings of a training run: one frozen dataclass, kept in the run directory.

Nothing here loads TensorFlow before there is a configuration, as the command line is made of it.
"""

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from keras_transformer.errors import InputError, suggestion
from keras_transformer.options import kinds_of, option
from keras_transformer.training.data.corpora import Corpus, ParallelFiles, make_corpus

if TYPE_CHECKING:
    from keras_transformer.training.data.batching import Batching

Schedule = Literal["inverse-square-root", "linear", "cosine", "one-cycle", "constant"]
Optimizer = Literal["adam", "adamw", "adafactor"]
Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]

# Where `--help` shows the options.
RUN, DATA, MODEL, TOKENISER, OPTIMISATION, REGULARISATION, CHECKPOINTS, HARDWARE = PANELS = (
    "Run",
    "Data",
    "Model",
    "Tokeniser",
    "Optimisation",
    "Regularisation",
    "Validation and checkpoints",
    "Hardware",
)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides how a model is trained.

    Raises:
        InputError: If a value is out of its range; the message names it.
    """

    source: str | list[str] | None = option(
        "Source text, plain or .gz, or a pattern in quotes; repeatable.", panel=DATA, kind=list[str]
    )
    target: str | list[str] | None = option(
        "Target text, line by line; repeatable likewise.", panel=DATA, kind=list[str]
    )
    valid_source: str | None = option("Source text to validate on.", panel=DATA, kind=Path)
    valid_target: str | None = option("Target text to validate on.", panel=DATA, kind=Path)
    steps: int = option("Number of updates in all.", panel=OPTIMISATION)
    learning_rate: float = option(
        "Peak; by default the paper's for the model's width, with --init-from 5e-5.",
        panel=OPTIMISATION,
    )
    warmup_steps: int = option(
        "Warm-up steps. [default: a quarter of all, at most 4000]",
        name="warmup",
        panel=OPTIMISATION,
    )
    schedule: Schedule = option(
        "After the warm-up; linear, cosine and one-cycle end near 0. [default: "
        "inverse-square-root, with --init-from linear]",
        "inverse-square-root",
        OPTIMISATION,
        unset=True,
    )
    optimizer: Optimizer = option(
        "The optimizer. [default: adam, with --init-from adamw]", "adam", OPTIMISATION, unset=True
    )
    weight_decay: float = option("Weight decay of adamw.", 0.01, REGULARISATION)
    ema: float = option("Decay of a moving average of the weights; 0 is off.", 0.0, OPTIMISATION)
    max_length: int = option(
        "Longest text in tokens. [default: what the model takes]", 256, DATA, unset=True
    )  # of a source or a target, the end token included
    batch_tokens: int = option(
        "Tokens in one side of a batch, over all devices.", 4096, OPTIMISATION
    )  # padding included
    label_smoothing: float = option(
        "Share spread over all labels. [default: 0.1 from text to text, else 0]",
        0.1,
        REGULARISATION,
        unset=True,
    )
    clip_norm: float = option("Global norm of gradients; 0 is off.", 1.0, OPTIMISATION)
    accumulate: int = option("Micro-batches that a batch is cut into, to save memory.", 1, HARDWARE)
    precision: Precision = option("Precision of the computation.", "float32", HARDWARE)
    teacher_forcing: float = option(
        "Share of true tokens in the decoder's input at the last step.", 1.0, OPTIMISATION
    )
    deterministic: bool = option(
        "Refuse ops that may differ between two runs.", False, HARDWARE, flags=("--deterministic",)
    )
    seed: int = option("Seed of weights, dropout and order.", 1, OPTIMISATION)
    validate_every: int = option(
        "Steps between validations. [default: a fifth of all, at most 1000]",
        500,
        CHECKPOINTS,
        unset=True,
    )
    checkpoint_every: int = option(
        "Steps between checkpoints. [default: as --validate-every]", 500, CHECKPOINTS, unset=True
    )
    keep_checkpoints: int = option("How many to keep.", 2, CHECKPOINTS)  # one may be damaged
    weights: list[float] | None = option(
        "Share of each --source in the pairs; by default as many as it has.",
        None,
        DATA,
        name="weight",
        kind=list[float] | None,
    )
    token_dropout: float = option(
        "Probability that a token of the source becomes unknown.", 0.0, REGULARISATION
    )
    piece_dropout: float = option(
        "Probability that a piece is missing when text is cut.", 0.0, REGULARISATION
    )
    data_service: str | None = option("Where batches are made: grpc://HOST:PORT.", None, HARDWARE)
    data: str | None = option(
        "Examples: a .tsv, .csv or .jsonl file, lines of text, or a pattern in quotes; for "
        "image-classification a folder with one of pictures for each label.",
        None,
        DATA,
    )
    valid_data: str | None = option("Examples to validate on.", None, DATA)
    mask_rate: float = option("Share of the tokens that masked-lm predicts.", 0.15, OPTIMISATION)
    freeze: bool = option(
        "Train only what --init-from does not give.", False, RUN, flags=("--freeze",)
    )
    patience: int = option(
        "Stop after so many validations without a better one; 0 is off.", 0, CHECKPOINTS
    )
    valid_split: float | None = option(
        "Share of the text to validate on instead, such as 0.02; it is not trained on.", None, DATA
    )

    def __post_init__(self) -> None:
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
        for name in ("schedule", "optimizer", "precision"):
            choices, value = get_args(kinds_of(type(self))[name]), getattr(self, name)
            near = suggestion(value, choices)
            self._check(name, value in choices, f"must be one of {', '.join(choices)}", near)
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
        split = self.valid_split
        self._check("valid_split", split is None or 0 < split < 1, "must be between 0 and 1")
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
        self.batching  # noqa: B018  (refuses a batch too small for a sentence)

    def _check(self, name: str, holds: object, rule: str, more: str = "") -> None:
        if not holds:
            raise InputError(f"{name} {rule}, got {getattr(self, name)!r}.{more}")

    @property
    def train_files(self) -> Corpus:
        """The parallel text to train on."""
        return make_corpus(_as_list(self.source), _as_list(self.target), self.weights)

    @property
    def valid_files(self) -> ParallelFiles:
        """The parallel text to validate on."""
        return ParallelFiles(Path(str(self.valid_source)), Path(str(self.valid_target)))

    @property
    def batching(self) -> "Batching":
        """The size and length of batches."""
        from keras_transformer.training.data.batching import Batching  # which loads TensorFlow

        return Batching(self.batch_tokens, self.max_length)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, ready for JSON."""
        fields = dataclasses.asdict(self)
        if self.valid_split is None:  # as before there was one
            del fields["valid_split"]
        return fields


def _as_list(names: str | list[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else names or []


def paper_peak(d_model: int) -> float:
    """Return the highest learning rate of the paper's schedule for a model of width D."""
    return (d_model * 4000) ** -0.5
