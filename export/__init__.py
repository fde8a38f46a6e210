"""Export: SavedModel and `.tflite`, proven against the model, and running what was exported."""

import importlib

_HOMES = {
    "AsyncClient": "keras_transformer.serving.client",
    "Client": "keras_transformer.serving.client",
    "ServerError": "keras_transformer.serving.client",
    "export": "keras_transformer.export.exporter",
    "export_run": "keras_transformer.export.exporter",
    "export_saved_model": "keras_transformer.export.saved_model",
    "load": "keras_transformer.export.runtime",
}

__all__ = sorted(_HOMES)


def __getattr__(name):
    # Lazily: running an artefact needs neither Keras nor the code that wrote it.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
