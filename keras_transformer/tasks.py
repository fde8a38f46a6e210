"""Tasks: what a model is for, which decides its head and what it answers.

A run folder says its task, and everything else follows: which model is built around the weights,
and which signatures it has in Python and in what is exported.
"""

import dataclasses
from typing import Any

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)

# isort: split

from keras_transformer.errors import InputError
from keras_transformer.models.config import StackConfig, TransformerConfig
from keras_transformer.models.families import FAMILIES
from keras_transformer.models.gpt import GptConfig
from keras_transformer.models.heads import SentenceEncoder, SequenceClassifier
from keras_transformer.servable import Servable
from keras_transformer.text_encoders import SentenceEmbedder, TextClassifier
from keras_transformer.text_generator import TextGenerator
from keras_transformer.translator import Translator

TRANSLATION, CLASSIFICATION, EMBEDDING = "translation", "classification", "embedding"
CAUSAL_LM = "causal-lm"
TASKS = (TRANSLATION, CAUSAL_LM, CLASSIFICATION, EMBEDDING)
WRITE = (TRANSLATION, CAUSAL_LM)  # those that write text


@dataclasses.dataclass(frozen=True)
class Head:
    """What a run holds beside the configuration of its model.

    Args:
        task: One of `TASKS`.
        labels: Names of the labels, in the order of the logits; empty where there are none.
        settings: Arguments of the head, such as `pooling`.
        max_length: Most tokens of a text, if fewer than the model takes.
    """

    task: str = TRANSLATION
    labels: tuple[str, ...] = ()
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    max_length: int | None = None

    def __post_init__(self):
        """Refuse a task that there is not."""
        if self.task not in TASKS:
            raise InputError(f"There is no task {self.task!r}; choose one of {', '.join(TASKS)}.")
        object.__setattr__(self, "labels", tuple(self.labels))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, ready for JSON."""
        return {**dataclasses.asdict(self), "labels": list(self.labels)}


def make_model(config: StackConfig, head: Head, dtype=None):
    """Build the model of a task.

    Raises:
        InputError: If the family can't do the task.
    """
    family: Any = FAMILIES[config.family]
    if head.task == TRANSLATION and isinstance(config, TransformerConfig):
        return family(config, dtype=dtype)
    if head.task == CAUSAL_LM and isinstance(config, GptConfig):
        return family(config, dtype=dtype)
    if config.family in ("bert", "roberta", "electra"):
        if head.task == CLASSIFICATION:
            count = len(head.labels)
            return SequenceClassifier(config, num_labels=count, dtype=dtype, **head.settings)
        if head.task == EMBEDDING:
            return SentenceEncoder(config, dtype=dtype, **head.settings)
    raise InputError(f"A model of the family {config.family!r} can't do the task {head.task!r}.")


def make_servable(
    model, tokenizer, head: Head, options=None, jit_compile: bool = False
) -> Servable:
    """Put a model and its tokeniser together for its task.

    Args:
        model: The model.
        tokenizer: The tokeniser that it was trained with.
        head: Of the run.
        options: `GenerationOptions`, for what writes text.
        jit_compile: Whether XLA compiles what writes text.
    """
    if head.task == TRANSLATION:
        return Translator(model, tokenizer, options, jit_compile)
    if head.task == CAUSAL_LM:
        return TextGenerator(model, tokenizer, options, jit_compile)
    if options is not None or jit_compile:
        raise InputError(f"A model for {head.task} writes no text: options of generation are not.")
    if head.task == CLASSIFICATION:
        return TextClassifier(model, tokenizer, head.labels, head.max_length)
    return SentenceEmbedder(model, tokenizer, head.max_length)
