"""Export: SavedModel and `.tflite`, proven against the model, and running what was exported."""

import importlib

_HOMES = {
    "AsyncClient": "client",
    "Client": "client",
    "ServerError": "client",
    "export_run": "bundle",
    "export_saved_model": "saved_model",
    "load": "runtime",
}

__all__ = sorted(_HOMES)


def __getattr__(name):
    # Lazily: running an artefact needs neither Keras nor the code that wrote it.
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
