"""Text to text: a `Transformer` that writes one text for another.

Shapes: B batch, S source length, T target length, L blocks, H heads.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_transformer.artefacts.text_to_text import NO_ID
from keras_transformer.decoding import align, cross_attention
from keras_transformer.models import Transformer
from keras_transformer.pipelines.servable import strings
from keras_transformer.pipelines.text_writer import TextWriter
from keras_transformer.text.framing import cut_and_end
from keras_transformer.typing import Ids, Strings, Tensors


class Translator(TextWriter):
    """A Transformer that takes and gives text.

    Args:
        model: A `Transformer`.
        tokenizer: The tokeniser that the model was trained with.
        options: How targets are generated: `GenerationOptions`; greedily if None.
        jit_compile: Whether XLA compiles the model: faster once every shape has been compiled.

    Raises:
        InputError: If the model or the tokeniser is anything else, or there is none.
        ValueError: If the tokeniser has more or fewer pieces than the model.

    Example:
        translator = Translator(model, WordPieceTokenizer.load("run/vocab.txt"))
        translator(["Two young men."])
    """

    model_class = Transformer
    task = "translation"
    description = "Writes one text for another: text in, text out."

    def _all_graphs(self) -> dict[str, tuple[Callable[..., Any], Any]]:
        graphs = super()._all_graphs()
        pair = strings("text", "target")
        return graphs | {
            "align": (self.align_text, pair),
            "attention": (self.attention_text, pair),
        }

    def _framed(self, ids: Ids) -> Ids:
        """Cut pieces and end them."""
        config = self.model.config
        begin = config.source_begin_id
        return cut_and_end(ids, self.max_length, config.end_id, config.padding_id, begin)

    def _labels(self, target: Strings) -> Ids:
        """Cut pieces and end them; the decoder's input begins them."""
        config, ids = self.model.config, self._pieces(target)
        return cut_and_end(ids, self.max_length, config.end_id, config.padding_id)

    def _begun(self, target: Strings) -> Ids:
        """Begin pieces, as the decoder's input is."""
        begun = self._pieces(target)[:, : self.max_length - 1]
        return tf.pad(begun, [[0, 0], [1, 0]], constant_values=self.model.config.begin_id)

    def align_text(self, text: Strings, target: Strings) -> Tensors:
        """Show which source pieces each target piece attends to.

        Args:
            text: String tensor `(B,)`.
            target: String tensor `(B,)`.

        Returns:
            Dict of `source_ids`, int32 `(B, S)`; `target_ids`, int32 `(B, T)`, both with the end
            token, padded with -1; and `weights`, float32 `(B, T, S)`, of which each row sums to 1.
        """
        return self._aligned(text, target, align)

    def attention_text(self, text: Strings, target: Strings) -> Tensors:
        """Show which source pieces each target piece attends to in every head of every block.

        Args:
            text: String tensor `(B,)`.
            target: String tensor `(B,)`.

        Returns:
            As `align_text`, but `weights`, float32 `(B, L, H, T, S)`.
        """
        return self._aligned(text, target, cross_attention)

    def _aligned(self, text: Strings, target: Strings, compute: Callable[..., Any]) -> Tensors:
        source, labels = self._pair(text, target)
        weights = compute(self.model, source, labels)
        # The padding of a published model may be any id, and 0 may be one of its tokens.
        source, labels = (
            tf.where(tf.equal(ids, self.model.config.padding_id), NO_ID, ids)
            for ids in (source, labels)
        )
        return {"source_ids": source, "target_ids": labels, "weights": weights}
