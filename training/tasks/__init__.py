"""Training of each task, a file for each; `registry` finds them by name."""

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)
