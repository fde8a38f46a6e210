"""Tasks: what a model is for, which decides its head and what it answers.

A run folder says its task, and everything else follows: which model is built around the weights,
and which signatures it has in Python and in what is exported.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)

# isort: split

from keras_transformer.errors import InputError
from keras_transformer.models.bert import BertConfig
from keras_transformer.models.config import StackConfig, TransformerConfig
from keras_transformer.models.families import FAMILIES
from keras_transformer.models.gpt import GptConfig
from keras_transformer.models.heads import (
    MaskedLanguageModel,
    QuestionAnswerer,
    SentenceEncoder,
    SequenceClassifier,
    TokenClassifier,
)
from keras_transformer.models.vision_transformer import VisionTransformerConfig
from keras_transformer.pipelines.image_classifier import ImageClassifier
from keras_transformer.pipelines.mask_filler import MaskFiller
from keras_transformer.pipelines.passage_reader import PassageReader
from keras_transformer.pipelines.sentence_embedder import SentenceEmbedder
from keras_transformer.pipelines.servable import Servable
from keras_transformer.pipelines.text_classifier import TextClassifier
from keras_transformer.pipelines.text_generator import TextGenerator
from keras_transformer.pipelines.token_labeller import TokenLabeller
from keras_transformer.pipelines.translator import Translator

TRANSLATION, SUMMARISATION, CAUSAL_LM = "translation", "summarisation", "causal-lm"
MASKED_LM, CLASSIFICATION, EMBEDDING = "masked-lm", "classification", "embedding"
TOKEN_CLASSIFICATION, QUESTION_ANSWERING = "token-classification", "question-answering"
IMAGE_CLASSIFICATION = "image-classification"
TEXT_TO_TEXT = (TRANSLATION, SUMMARISATION)  # those that write one text for another
WRITE = (*TEXT_TO_TEXT, CAUSAL_LM)  # those that write text
LABEL = (CLASSIFICATION, TOKEN_CLASSIFICATION, IMAGE_CLASSIFICATION)  # those that have labels
WITHOUT_TEXT = (IMAGE_CLASSIFICATION,)  # those that have no tokeniser
# What is on top of an encoder.
HEADS: dict[str, Any] = {
    MASKED_LM: MaskedLanguageModel,
    CLASSIFICATION: SequenceClassifier,
    TOKEN_CLASSIFICATION: TokenClassifier,
    QUESTION_ANSWERING: QuestionAnswerer,
    EMBEDDING: SentenceEncoder,
}
TASKS = (*WRITE, *HEADS, IMAGE_CLASSIFICATION)


@dataclasses.dataclass(frozen=True)
class Head:
    """What a run holds beside the configuration of its model.

    Args:
        task: One of `TASKS`.
        labels: Names of the labels, in the order of the logits; empty where there are none.
        settings: Arguments of the head, such as `pooling`, and of what answers with it, such as
            the `scores` of `TextClassifier` and the `prompt` of `SentenceEmbedder`; of what
            classifies images those of `images.prepare_pixels`, `image_mean` and `image_std`.
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


def check_family(config: StackConfig, task: str) -> None:
    """Make sure that a model of a family can do a task.

    Raises:
        InputError: If it can't.
    """
    needed: dict[str, type[StackConfig]] = {
        **dict.fromkeys(TEXT_TO_TEXT, TransformerConfig),
        CAUSAL_LM: GptConfig,
        IMAGE_CLASSIFICATION: VisionTransformerConfig,
        **dict.fromkeys(HEADS, BertConfig),
    }
    if not isinstance(config, needed[task]):
        raise InputError(f"A model of the family {config.family!r} can't do the task {task!r}.")


def make_model(config: StackConfig, head: Head, dtype=None):
    """Build the model of a task.

    Raises:
        InputError: If the family can't do the task.
    """
    check_family(config, head.task)
    if head.task in HEADS:
        known = HEADS[head.task].settings
        settings = {name: value for name, value in head.settings.items() if name in known}
        if head.task in LABEL:
            settings["num_labels"] = len(head.labels)
        return HEADS[head.task](config, dtype=dtype, **settings)
    family: Any = FAMILIES[config.family]
    return family(config, dtype=dtype)


def make_servable(
    model, tokenizer, head: Head, options=None, jit_compile: bool = False
) -> Servable:
    """Put a model and its tokeniser together for its task.

    Args:
        model: The model.
        tokenizer: The tokeniser that it was trained with; None for a model of images.
        head: Of the run.
        options: `GenerationOptions`, for what writes text.
        jit_compile: Whether XLA compiles what writes text.
    """
    if head.task in TEXT_TO_TEXT:
        return Translator(model, tokenizer, options, jit_compile)
    if head.task == CAUSAL_LM:
        return TextGenerator(model, tokenizer, options, jit_compile)
    if options is not None or jit_compile:
        raise InputError(
            f"A model for {head.task} writes no text, so it takes no options of generation; leave "
            "them out."
        )
    of_model = HEADS[head.task].settings if head.task in HEADS else ()
    more = {name: value for name, value in head.settings.items() if name not in of_model}
    make: dict[str, Callable[[], Servable]] = {
        MASKED_LM: lambda: MaskFiller(model, tokenizer, head.max_length),
        CLASSIFICATION: lambda: TextClassifier(
            model, tokenizer, head.labels, head.max_length, **more
        ),
        TOKEN_CLASSIFICATION: lambda: TokenLabeller(model, tokenizer, head.labels, head.max_length),
        QUESTION_ANSWERING: lambda: PassageReader(model, tokenizer, head.max_length),
        EMBEDDING: lambda: SentenceEmbedder(model, tokenizer, head.max_length, **more),
        IMAGE_CLASSIFICATION: lambda: ImageClassifier(model, head.labels, **more),
    }
    return make[head.task]()
