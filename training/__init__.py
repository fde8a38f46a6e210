"""Training: data, loss, metrics, schedules, and the run from text files to a trained model."""

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)
from keras_transformer.models.loss_scale import LossScaleOptimizer
from keras_transformer.training.config import TrainingConfig
from keras_transformer.training.data.arrays import make_arrays
from keras_transformer.training.data.augmentation import PieceDropout, token_dropout
from keras_transformer.training.data.batching import Batching
from keras_transformer.training.data.corpora import Mixture, ParallelFiles, make_corpus
from keras_transformer.training.data.corpus_size import CorpusSize, measure
from keras_transformer.training.data.noise import (
    corrupt_spans,
    infill_text,
    mask_tokens,
    permute_sentences,
    replace_tokens,
    sample_replacements,
    sample_unigrams,
)
from keras_transformer.training.data.parallel_text import (
    make_batches,
    make_training_batches,
    split_batches,
)
from keras_transformer.training.data.token_stream import TokenStream, all_windows, windows
from keras_transformer.training.distribution import (
    distribute_batches,
    distribute_local_batches,
    make_strategy,
)
from keras_transformer.training.losses import BinaryCrossEntropy, CrossEntropy, token_cross_entropy
from keras_transformer.training.metrics import Perplexity, TokenAccuracy, TokenCrossEntropy
from keras_transformer.training.optimizers import OPTIMIZERS, adafactor, adamw, paper_adam
from keras_transformer.training.run.run_directory import RunDirectory
from keras_transformer.training.scheduled_sampling import ScheduledSampling
from keras_transformer.training.schedules import (
    Constant,
    InverseSquareRoot,
    LinearDecay,
    OneCycle,
    WarmupCosine,
)
from keras_transformer.training.trainer import TrainingResult, train

__all__ = [
    "OPTIMIZERS",
    "Batching",
    "BinaryCrossEntropy",
    "Constant",
    "CorpusSize",
    "CrossEntropy",
    "InverseSquareRoot",
    "LinearDecay",
    "LossScaleOptimizer",
    "Mixture",
    "OneCycle",
    "ParallelFiles",
    "Perplexity",
    "PieceDropout",
    "RunDirectory",
    "ScheduledSampling",
    "TokenAccuracy",
    "TokenCrossEntropy",
    "TokenStream",
    "TrainingConfig",
    "TrainingResult",
    "WarmupCosine",
    "adafactor",
    "adamw",
    "all_windows",
    "corrupt_spans",
    "distribute_batches",
    "distribute_local_batches",
    "infill_text",
    "make_arrays",
    "make_batches",
    "make_corpus",
    "make_strategy",
    "make_training_batches",
    "mask_tokens",
    "measure",
    "paper_adam",
    "permute_sentences",
    "replace_tokens",
    "sample_replacements",
    "sample_unigrams",
    "split_batches",
    "token_cross_entropy",
    "token_dropout",
    "train",
    "windows",
]
