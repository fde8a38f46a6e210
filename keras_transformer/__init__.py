"""keras_transformer: from text files to a Transformer that runs anywhere.

    import keras_transformer as kt

`kt.layers`, `kt.models`, `kt.text`, `kt.decoding`, `kt.pipelines`, `kt.training` and `kt.export`
are loaded when they are first used, so that importing the package takes no time. `kt.load` opens
whatever answers: a run folder, an export, a SavedModel or a `.tflite` file.
"""

import importlib
import os

__version__ = "0.1.0"
DISTRIBUTION = "keras-transformer-anywhere"  # the name without the last word is another project's

# Has to be set before TensorFlow is loaded; a value that the user has set stays.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

_SUBPACKAGES = ("decoding", "export", "layers", "models", "pipelines", "text", "training")
_SHORTCUTS = {
    "Translator": "keras_transformer.pipelines.translator",
    "load": "keras_transformer.export.runtime",
}

__all__ = [*_SUBPACKAGES, *_SHORTCUTS, "__version__"]


def __getattr__(name):
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _SHORTCUTS:
        return getattr(importlib.import_module(_SHORTCUTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
