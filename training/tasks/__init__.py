"""What is trained: a file a task, by name in `registry`."""

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)
