"""keras_transformer: from text files to a Transformer that runs anywhere.

    import keras_transformer as kt

`kt.layers`, `kt.models`, `kt.text`, `kt.decoding`, `kt.pipelines`, `kt.training` and `kt.export`
are loaded when they are first used, so that importing the package takes no time. `kt.load` opens
whatever answers: a run folder, an export, a SavedModel or a `.tflite` file.
"""

import os

from keras_transformer._lazy import load_lazily

__version__ = "0.1.0"
DISTRIBUTION = "keras-transformer-anywhere"  # the name without the last word is another project's

TASK_ENTRY_POINTS = "keras_transformer.tasks"  # where installed packages list tasks of theirs

# Has to be set before TensorFlow is loaded; a value that the user has set stays.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

_SUBPACKAGES = ("decoding", "export", "layers", "models", "pipelines", "text", "training")

__getattr__, __dir__, __all__ = load_lazily(
    __name__,
    {
        **{name: f"{__name__}.{name}" for name in _SUBPACKAGES},
        "Translator": "keras_transformer.pipelines.translator",
        "load": "keras_transformer.export.runtime",
    },
)
__all__ += ["__version__"]
