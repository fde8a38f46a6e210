"""Tokeniser, model and search in one graph: a file a task."""

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)
from keras_transformer.pipelines.image_classifier import ImageClassifier
from keras_transformer.pipelines.images import read_pictures
from keras_transformer.pipelines.mask_filler import MaskFiller
from keras_transformer.pipelines.passage_reader import PassageReader
from keras_transformer.pipelines.sentence_embedder import SentenceEmbedder
from keras_transformer.pipelines.servable import Servable
from keras_transformer.pipelines.tasks import Task, TaskSettings
from keras_transformer.pipelines.text_classifier import TextClassifier
from keras_transformer.pipelines.text_generator import TextGenerator
from keras_transformer.pipelines.token_labeller import TokenLabeller
from keras_transformer.pipelines.translator import Translator

__all__ = [
    "ImageClassifier",
    "MaskFiller",
    "PassageReader",
    "SentenceEmbedder",
    "Servable",
    "Task",
    "TaskSettings",
    "TextClassifier",
    "TextGenerator",
    "TokenLabeller",
    "Translator",
    "read_pictures",
]
