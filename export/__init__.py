"""Export: SavedModel and `.tflite`, proven against the model, and running what was exported."""

from keras_transformer._lazy import load_lazily

__getattr__, __dir__, __all__ = load_lazily(
    __name__,
    {
        "AsyncClient": "keras_transformer.serving.client",
        "Client": "keras_transformer.serving.client",
        "ServerError": "keras_transformer.serving.client",
        "export": "keras_transformer.export.exporter",
        "export_run": "keras_transformer.export.exporter",
        "export_saved_model": "keras_transformer.export.saved_model",
        "load": "keras_transformer.export.runtime",
    },
)
