"""Training: data, loss, metrics, schedules, and the run from text files to a trained model."""

from keras_transformer.training.data import (
    Batching,
    ParallelFiles,
    make_batches,
    make_training_batches,
)
from keras_transformer.training.losses import CrossEntropy, token_cross_entropy
from keras_transformer.training.metrics import Perplexity, TokenAccuracy, TokenCrossEntropy
from keras_transformer.training.schedules import InverseSquareRoot, paper_adam

from keras_transformer import _quiet  # noqa: F401  (first: it silences the backend's start-up)

__all__ = [
    "Batching",
    "CrossEntropy",
    "InverseSquareRoot",
    "ParallelFiles",
    "Perplexity",
    "TokenAccuracy",
    "TokenCrossEntropy",
    "make_batches",
    "make_training_batches",
    "paper_adam",
    "token_cross_entropy",
]
