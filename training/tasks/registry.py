"""How each task is trained, by its name."""

from keras_transformer.errors import InputError
from keras_transformer.pipelines.tasks import (
    CAUSAL_LM,
    CLASSIFICATION,
    IMAGE_CLASSIFICATION,
    MASKED_LM,
    QUESTION_ANSWERING,
    SUMMARISATION,
    TOKEN_CLASSIFICATION,
    TRANSLATION,
    WITHOUT_TEXT,
)
from keras_transformer.training.run.run_directory import RunDirectory
from keras_transformer.training.tasks.classification import TextClassification
from keras_transformer.training.tasks.image_classification import ImageClassification
from keras_transformer.training.tasks.language_modelling import (
    CausalLanguageModelling,
    MaskedLanguageModelling,
)
from keras_transformer.training.tasks.question_answering import QuestionAnswering
from keras_transformer.training.tasks.sequence_to_sequence import SequenceToSequence, Summarisation
from keras_transformer.training.tasks.task import Task
from keras_transformer.training.tasks.token_classification import TokenClassification

TRAINED: dict[str, type[Task]] = {
    TRANSLATION: SequenceToSequence,
    SUMMARISATION: Summarisation,
    CAUSAL_LM: CausalLanguageModelling,
    MASKED_LM: MaskedLanguageModelling,
    CLASSIFICATION: TextClassification,
    TOKEN_CLASSIFICATION: TokenClassification,
    QUESTION_ANSWERING: QuestionAnswering,
    IMAGE_CLASSIFICATION: ImageClassification,
}


def find_task(name: str) -> type[Task]:
    """Return what trains a task.

    Raises:
        InputError: If there is no such task, or it is not trained here.
    """
    if name not in TRAINED:
        raise InputError(f"There is no training for {name!r}; choose one of {', '.join(TRAINED)}.")
    return TRAINED[name]


def make_task(run: RunDirectory) -> Task:
    """Return what trains a run.

    Raises:
        InputError: If something of it is missing or damaged.
    """
    head = run.head()
    tokenizer = None if head.task in WITHOUT_TEXT else run.tokenizer()
    return find_task(head.task)(run.model_config(), head, run.training_config(), tokenizer)
