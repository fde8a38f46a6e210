"""Translating many texts with anything that translates a batch.

It needs no TensorFlow: what runs the batch may be a `Translator`, a SavedModel or a `.tflite`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np


def decode(texts) -> list[str]:
    """Turn the bytes of a string tensor into Python strings."""
    return [text.decode("utf-8", errors="replace") for text in texts]


class TextToText(Protocol):
    """What translates text: a `Translator` or one of the artefacts made from it."""

    def run(self, texts: Sequence[str]) -> tuple[list[str], list[float]]:
        """Translate one batch to texts and scores."""

    def tokenize(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Cut texts into ids `(B, S)`, and say which are too long for the model `(B,)`."""


@dataclasses.dataclass(frozen=True)
class Translations:
    """What `translate` returns: texts and scores in the order of the input."""

    texts: list[str]
    scores: list[float]
    truncated: list[int]  # indices of inputs that were too long for the model and were cut


def translate(
    runtime: TextToText,
    texts: Sequence[str],
    batch_size: int = 32,
    advance: Callable[[int], None] = lambda count: None,
) -> Translations:
    """Translate any number of texts, in batches of similar length.

    Args:
        runtime: A `Translator` or an artefact.
        texts: The source texts.
        batch_size: Number of texts translated at once.
        advance: Called with the number of texts in each batch that is done.

    Returns:
        `Translations`, in the order of `texts`.
    """
    lengths: list[int] = []
    truncated: list[int] = []
    for start in range(0, len(texts), batch_size):  # a batch at a time: one line may be very long
        ids, too_long = runtime.tokenize(texts[start : start + batch_size])
        lengths += np.count_nonzero(ids, axis=1).tolist()
        truncated += (start + np.flatnonzero(too_long)).tolist()
    order = sorted(range(len(texts)), key=lengths.__getitem__)
    outputs = [""] * len(texts)
    scores = [0.0] * len(texts)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        for i, text, score in zip(batch, *runtime.run([texts[i] for i in batch]), strict=True):
            outputs[i], scores[i] = text, score
        advance(len(batch))
    return Translations(outputs, scores, truncated)
