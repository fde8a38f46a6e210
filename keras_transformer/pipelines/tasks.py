"""The table of tasks: what a model is for decides its head, what it answers, and how it is trained.

A run folder says its task, and everything else follows from the task's row. A package of one's own
adds a row by an entry point of the group `keras_transformer.tasks`:

    [project.entry-points."keras_transformer.tasks"]
    sentiment = "my_package.sentiment:TASK"
"""

import dataclasses
from typing import Any

from keras_transformer import TASK_ENTRY_POINTS
from keras_transformer.errors import InputError, no_such
from keras_transformer.extensions import Table
from keras_transformer.models.bert import BertConfig
from keras_transformer.models.config import StackConfig, TransformerConfig
from keras_transformer.models.families import FAMILIES
from keras_transformer.models.gpt import GptConfig
from keras_transformer.models.heads import (
    EncoderHead,
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
from keras_transformer.pipelines.text_writer import TextWriter
from keras_transformer.pipelines.token_labeller import TokenLabeller
from keras_transformer.pipelines.translator import Translator

_TRAINING = "keras_transformer.training.tasks"


@dataclasses.dataclass(frozen=True)
class Task:
    """A row of the table.

    Args:
        name: Name on the command line and in run folders.
        config: The configurations of models that can do it.
        servable: What answers.
        head: What is on top of an encoder; None where the model of the family has all that is
            needed.
        training: What trains it, a `TaskTraining` as `module:Class`, which is loaded when something
            is trained; None where nothing does.
        has_labels: Whether the answers are labels from a set.
        has_text: Whether it has a tokeniser.
        description: What its models are for, in a sentence, if not the servable's.
    """

    name: str
    config: type[StackConfig]
    servable: type[Servable]
    head: type[EncoderHead] | None = None
    training: str | None = None
    has_labels: bool = False
    has_text: bool = True
    description: str | None = None

    @property
    def writes_text(self) -> bool:
        """True if it takes options of generation."""
        return issubclass(self.servable, TextWriter)


_OWN = (
    Task(
        "translation",
        TransformerConfig,
        Translator,
        training=f"{_TRAINING}.sequence_to_sequence:SequenceToSequence",
    ),
    Task(
        "summarisation",
        TransformerConfig,
        Translator,
        training=f"{_TRAINING}.sequence_to_sequence:Summarisation",
        description="Writes what is important in a text: text in, text out.",
    ),
    Task(
        "causal-lm",
        GptConfig,
        TextGenerator,
        training=f"{_TRAINING}.language_modelling:CausalLanguageModelling",
    ),
    Task(
        "masked-lm",
        BertConfig,
        MaskFiller,
        MaskedLanguageModel,
        training=f"{_TRAINING}.language_modelling:MaskedLanguageModelling",
    ),
    Task(
        "classification",
        BertConfig,
        TextClassifier,
        SequenceClassifier,
        training=f"{_TRAINING}.classification:TextClassification",
        has_labels=True,
    ),
    Task(
        "token-classification",
        BertConfig,
        TokenLabeller,
        TokenClassifier,
        training=f"{_TRAINING}.token_classification:TokenClassification",
        has_labels=True,
    ),
    Task(
        "question-answering",
        BertConfig,
        PassageReader,
        QuestionAnswerer,
        training=f"{_TRAINING}.question_answering:QuestionAnswering",
    ),
    Task("embedding", BertConfig, SentenceEmbedder, SentenceEncoder),
    Task(
        "image-classification",
        VisionTransformerConfig,
        ImageClassifier,
        training=f"{_TRAINING}.image_classification:ImageClassification",
        has_labels=True,
        has_text=False,
    ),
)


# By name: the rows of this package, and those of installed ones.
TASKS: Table[Task] = Table(
    TASK_ENTRY_POINTS, "task", Task, {task.name: task for task in _OWN}, instances=True
)


def find_task(name: str) -> Task:
    """Return a row of the table.

    Raises:
        InputError: If there is no such task.
    """
    if name not in TASKS:
        raise no_such("task", name, TASKS)
    return TASKS[name]


@dataclasses.dataclass(frozen=True)
class TaskSettings:
    """The task of a run: its labels, and the arguments of its head and its servable.

    Args:
        task: Name of the task.
        labels: Names of the labels, in the order of the logits; empty where there are none.
        settings: Arguments of the head, such as `pooling`, and of what answers with it, such as
            the `scores` of `TextClassifier` and the `prompt` of `SentenceEmbedder`; of what
            classifies images those of `images.prepare_pixels`, `image_mean` and `image_std`.
        max_length: Most tokens of a text, if fewer than the model takes.

    Raises:
        InputError: If there is no such task.
    """

    task: str = "translation"
    labels: tuple[str, ...] = ()
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    max_length: int | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown task."""
        find_task(self.task)
        object.__setattr__(self, "labels", tuple(self.labels))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, ready for JSON."""
        return {**dataclasses.asdict(self), "labels": list(self.labels)}


def check_family(config: StackConfig, task: str) -> None:
    """Make sure that a model of a family can do a task.

    Raises:
        InputError: If it can't.
    """
    if not isinstance(config, find_task(task).config):
        raise InputError(f"A model of the family {config.family!r} can't do the task {task!r}.")


def make_model(config: StackConfig, settings: TaskSettings, dtype: Any = None) -> Any:
    """Build the model of a task.

    Raises:
        InputError: If the family can't do the task.
    """
    check_family(config, settings.task)
    task = find_task(settings.task)
    if task.head is None:
        family: Any = FAMILIES[config.family]
        return family(config, dtype=dtype)
    known = task.head.settings
    arguments = {name: value for name, value in settings.settings.items() if name in known}
    if task.has_labels:
        arguments["num_labels"] = len(settings.labels)
    return task.head(config, dtype=dtype, **arguments)


def make_servable(
    model: Any,
    tokenizer: Any,
    settings: TaskSettings,
    options: Any = None,
    jit_compile: bool = False,
) -> Servable:
    """Put a model and its tokeniser together for its task.

    Args:
        model: The model.
        tokenizer: The tokeniser that it was trained with; None for a model of images.
        settings: Of the run.
        options: `GenerationOptions`, for what writes text.
        jit_compile: Whether XLA compiles what writes text.

    Raises:
        InputError: If the model writes no text, and there are options of generation.
    """
    task = find_task(settings.task)
    arguments: dict[str, Any] = {}
    if task.writes_text:
        arguments = {"options": options, "jit_compile": jit_compile}
    elif options is not None or jit_compile:
        raise InputError(
            f"A model for {task.name} writes no text, so it takes no options of generation; leave "
            "them out."
        )
    else:
        of_model = task.head.settings if task.head else ()
        arguments = {n: value for n, value in settings.settings.items() if n not in of_model}
        if task.has_labels:
            arguments["labels"] = settings.labels
        if task.has_text:
            arguments["max_length"] = settings.max_length
    if task.has_text:
        arguments["tokenizer"] = tokenizer
    servable: Any = task.servable
    made = servable(model, **arguments)
    made.task = task.name
    if task.description:
        made.description = task.description
    return made


def task_of(model: Any) -> Task | None:
    """Return the task of a model, by its head or its family; None where it has none of its own."""
    for task in TASKS.values():
        if type(model) is task.head:
            return task
        if task.head is None and isinstance(getattr(model, "config", None), task.config):
            return task
    return None
