"""A transposed copy of the output table, which makes the logits of decoding faster."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops


class TransposesOutput:
    """Models whose logits are products with the transposed table of target embeddings.

    A product with a table `(V, D)` takes up to three times as long as one with `(D, V)`. The copy
    is of the weights as they are when it is made. It is not saved with the model.

    Subclasses have a `decoder_step` with a layer "step", and name the embeddings.
    """

    target_embedding: str  # among `_parts`
    _parts: dict[str, Any]
    config: Any
    decoder_step: Any

    def transpose_output(self) -> None:
        """Keep a transposed copy of a tied table for decoding, on a model that is trained."""
        if self.config.tie_embeddings:
            table = ops.transpose(self._parts[self.target_embedding].table.table)
            self._keep(keras.Variable(table, trainable=False))

    @contextlib.contextmanager
    def transposed_output(self) -> Iterator[None]:
        """Decode with such a copy inside the block, on a model that may be trained further."""
        before = self.output_kernel
        self.transpose_output()
        try:
            yield
        finally:
            self._keep(before)

    @property
    def output_kernel(self) -> Any:
        """The copy, float `(D, V)`, or None."""
        return self.decoder_step.get_layer("step").output_kernel

    def _keep(self, kernel: Any) -> None:
        # Out of Keras's tracking, so that it is no weight of the model.
        object.__setattr__(self.decoder_step.get_layer("step"), "output_kernel", kernel)
