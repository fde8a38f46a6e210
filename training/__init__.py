"""Training: data, loss, metrics, schedules, and the run from text files to a trained model."""

import importlib

_NAMES = {
    "models.loss_scale": ["LossScaleOptimizer"],
    "training.config": ["TrainingConfig"],
    "training.data.augmentation": ["PieceDropout", "token_dropout"],
    "training.data.batching": ["Batching"],
    "training.data.corpora": ["Mixture", "ParallelFiles", "make_corpus"],
    "training.data.corpus_size": ["CorpusSize", "measure"],
    "training.data.noise": [
        "corrupt_spans",
        "infill_text",
        "mask_tokens",
        "permute_sentences",
        "replace_tokens",
        "sample_replacements",
        "sample_unigrams",
    ],
    "training.data.parallel_text": ["make_batches", "make_training_batches", "split_batches"],
    "training.data.token_stream": ["TokenStream", "all_windows", "windows"],
    "training.distribution": ["distribute_batches", "distribute_local_batches", "make_strategy"],
    "training.losses": ["BinaryCrossEntropy", "CrossEntropy", "token_cross_entropy"],
    "training.metrics": ["Perplexity", "TokenAccuracy", "TokenCrossEntropy"],
    "training.optimizers": ["OPTIMIZERS", "adafactor", "adamw", "paper_adam"],
    "training.run.run_directory": ["RunDirectory"],
    "training.scheduled_sampling": ["ScheduledSampling"],
    "training.schedules": [
        "Constant",
        "InverseSquareRoot",
        "LinearDecay",
        "OneCycle",
        "WarmupCosine",
    ],
    "training.trainer": ["TrainingResult", "train"],
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name):
    # Lazily: the command line is made of the configuration, and has to answer at once.
    if name in _HOMES:
        from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)

        return getattr(importlib.import_module(f"keras_transformer.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
