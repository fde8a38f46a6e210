"""From text to text, wherever it runs: one interface, by the names of signatures.

A `Translator`, a SavedModel and a `.tflite` differ in how a signature is called; what is made of
its arrays is written here. It needs no TensorFlow.

Shapes: B batch, N targets of a source, S source length, T target length, V vocabulary, L blocks,
H heads.
"""

import codecs
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from keras_transformer.artefacts.artefact import Artefact, decode
from keras_transformer.errors import InputError

# Only one of the pairs is there: `stream` if the options follow one hypothesis, otherwise `draft`,
# which does so greedily.
STREAMING = ("stream_start", "stream_step", "draft_start", "draft_step")
NO_ID = -1  # what fills up rows of ids that are aligned
# What an artefact from text to text can be asked for; `sample` is there if its options sample.
SIGNATURES = (
    "serving_default",
    "translate",
    "complete",
    "sample",
    "score",
    "next_token",
    "align",
    "attention",
    "tokenize",
    *STREAMING,
)


class TextToText(Artefact):
    """A model that takes text and writes text."""

    def run(
        self, texts: Sequence[str], prefixes: Sequence[str] | None = None
    ) -> tuple[list[list[str]], list[list[float]]]:
        """Translate one batch to the N best texts of each, which begin as asked, and scores."""
        if prefixes is None:
            outputs = self.call("translate", text=texts)
        else:
            outputs = self.call("complete", text=texts, prefix=prefixes)
        return decode(outputs["text"]), outputs["score"].tolist()

    def tokenize(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Cut texts into ids `(B, S)`, and say which are too long for the model `(B,)`."""
        outputs = self.call("tokenize", text=texts)
        return outputs["ids"], outputs["truncated"]

    def score(
        self, texts: Sequence[str], targets: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return log-probabilities of targets, their numbers of tokens, and which were cut."""
        outputs = self.call("score", text=texts, target=targets)
        return outputs["score"], outputs["tokens"], outputs["truncated"]

    def next_token_probabilities(self, texts: Sequence[str], targets: Sequence[str]) -> np.ndarray:
        """Return the distributions `(B, V)` of the token that follows each part of a target."""
        return self.call("next_token", text=texts, target=targets)["probabilities"]

    def align(self, texts: Sequence[str], targets: Sequence[str]) -> list["Alignment"]:
        """Show which pieces of each text the pieces of its target attend to."""
        return Alignment.of_batch(**self.call("align", text=texts, target=targets))

    def attention(self, texts: Sequence[str], targets: Sequence[str]) -> list["Alignment"]:
        """Show the same in every head of every block: the weights are `(L, H, T, S)`."""
        return Alignment.of_batch(**self.call("attention", text=texts, target=targets))

    def stream(self, text: str) -> Iterator[str]:
        """Translate one text and yield the target piece by piece, as it is generated.

        The pieces are whole characters, and joined they are what `translate` gives.

        Args:
            text: The source.

        Raises:
            InputError: If the options ask for beam search or for several hypotheses, of which
                nothing is known to stay until the end.
        """
        if "stream_start" not in self.signatures:
            raise InputError(
                "Streaming follows one hypothesis: with beam search or several of them nothing is "
                "known to stay until the end. Set beam_size and num_hypotheses to 1."
            )
        return self._write("stream", text)

    def draft(self, text: str) -> Iterator[str]:
        """Yield what greedy search would give, where the options ask for more hypotheses."""
        return self._write("draft", text)

    def _write(self, kind: str, text: str) -> Iterator[str]:
        state = self.call(f"{kind}_start", text=[text])
        characters = codecs.getincrementaldecoder("utf-8")(errors="replace")
        seen = 0  # bytes of the text so far
        while not state["rows_done"][0]:
            state |= self.call(f"{kind}_step", **state)
            written = state.pop("text")[0]
            piece = characters.decode(written[seen:])
            seen = len(written)
            if piece:
                yield piece
        if rest := characters.decode(b"", final=True):
            yield rest


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Which pieces of a source each piece of its target attends to, padding left out."""

    source_ids: list[int]  # with the end token
    target_ids: list[int]  # with the end token
    weights: np.ndarray  # (T, S), or (L, H, T, S); each row sums to 1

    @classmethod
    def of_batch(
        cls, source_ids: np.ndarray, target_ids: np.ndarray, weights: np.ndarray
    ) -> list["Alignment"]:
        """Take a batch apart: ids `(B, S)`, ids `(B, T)` and weights `(B, ..., T, S)`."""
        sizes = [np.count_nonzero(ids != NO_ID, axis=1) for ids in (source_ids, target_ids)]
        return [
            cls(source_ids[i, :s].tolist(), target_ids[i, :t].tolist(), weights[i, ..., :t, :s])
            for i, (s, t) in enumerate(zip(*sizes, strict=True))
        ]
