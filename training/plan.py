"""Options of `train` beside a `TrainingConfig`: how a run begins, and how it is run now."""

import dataclasses
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

from keras_transformer import TASK_ENTRY_POINTS
from keras_transformer.errors import no_such
from keras_transformer.options import option
from keras_transformer.training.config import (
    HARDWARE,
    MODEL,
    OPTIMISATION,
    REGULARISATION,
    RUN,
    TOKENISER,
)

# Those that are trained, for help and early errors; `pipelines.tasks` has their table.
TASKS = (
    *("translation", "summarisation", "causal-lm", "masked-lm"),
    *("classification", "token-classification", "question-answering", "image-classification"),
)
Strategy = Literal["auto", "single", "mirrored", "multiworker"]
TokenizerName = Literal["wordpiece", "bert", "byte-pairs", "characters", "words"]


def check_task(name: str) -> None:
    """Make sure that a task can be trained, without loading anything.

    Raises:
        InputError: If there is none of that name.
    """
    if name not in TASKS:
        installed = entry_points(group=TASK_ENTRY_POINTS).names
        if name not in installed:
            raise no_such("task", name, [*TASKS, *installed])


@dataclasses.dataclass(frozen=True)
class Plan:
    """The beginning of a run: task, model and tokeniser. The help describes each field."""

    task: str = option(
        f"What the model is for: {', '.join(TASKS)}, or a task of an installed package.",
        TASKS[0],
        RUN,
    )
    init_from: Path | None = option(
        "Run whose weights, model and vocabulary to begin with (fine-tuning).", None, RUN
    )
    overwrite: bool = option("Replace a run in --output.", False, RUN)
    epochs: int | None = option(
        "Passes over the data, instead of --steps. [default: 10, with --init-from 3]",
        None,
        OPTIMISATION,
    )
    preset: str | None = option(
        "Model, such as small, bert-tiny or gpt2. [default: the task's]", None, MODEL
    )
    pooling: Literal["first", "mean", "mix"] | None = option(
        "What classification reads: the first token's vector, the mean of all, or the mean of a "
        "mix of all layers.",
        None,
        MODEL,
    )
    tokenizer: TokenizerName = option("Kind of the vocabulary.", "wordpiece", TOKENISER)
    vocabulary: Path | None = option(
        "Vocabulary, or the run that has it; learned from the training text if not given.",
        None,
        TOKENISER,
        name="vocab",
    )
    vocabulary_size: int = option("Pieces to learn.", 8000, TOKENISER, name="vocab_size")
    split_digits: bool = option("Learn digits as single pieces.", False, TOKENISER)


@dataclasses.dataclass(frozen=True)
class Call:
    """Options of a single call of `train`."""

    output: Path | None = option("Folder of the run.", None, RUN)
    resume: Path | None = option("Go on with this run, to the steps first asked for.", None, RUN)
    settings: list[str] | None = option(
        "NAME=VALUE of another field of the model's configuration, such as positions=rotary or "
        "image_size=64; repeatable.",
        None,
        MODEL,
        name="set_",
        flags=("--set",),
    )
    strategy: Strategy = option(
        "single: one device. mirrored: all GPUs of this machine. multiworker: the machines that "
        "TF_CONFIG lists. auto: what there is.",
        "auto",
        HARDWARE,
    )
    profile: str | None = option(
        "Steps to record for TensorBoard's profiler: FROM:TO.", None, HARDWARE
    )


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """The fields of a model's configuration that have an option of their own; `--set` has all.

    They are repeated here because the configuration loads Keras, and the command line must not.
    """

    num_layers: int | None = option("Layers, if not the preset's.", None, MODEL)
    num_heads: int | None = option("Attention heads, likewise.", None, MODEL)
    d_model: int | None = option("Width, likewise.", None, MODEL)
    d_ff: int | None = option("Feed-forward width, likewise.", None, MODEL)
    norm_first: bool | None = option(
        "Norm before each sub-layer, or after it.",
        None,
        MODEL,
        name="pre_norm",
        flags=("--pre-norm/--post-norm",),
    )
    dropout: float | None = option(
        "Dropout on sub-layers and embeddings, if not the preset's.", None, REGULARISATION
    )
    embedding_dropout: float | None = option(
        "Dropout on embeddings, if not as --dropout.", None, REGULARISATION
    )
    attention_dropout: float | None = option(
        "Dropout on attention weights, if not the preset's.", None, REGULARISATION
    )
    ffn_dropout: float | None = option(
        "Dropout inside the feed-forward network, likewise.", None, REGULARISATION
    )
    recompute: bool = option(
        "Compute activations twice, to save memory.", False, HARDWARE, flags=("--recompute",)
    )
