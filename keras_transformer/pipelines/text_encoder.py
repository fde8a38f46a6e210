"""Text to vectors and to labels: tokeniser and an encoder of BERT's kind in one graph.

Shapes: B batch, S length, D width, C labels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_transformer.artefacts.artefact import SAVED_MODEL
from keras_transformer.layers.packing import packing_tokens
from keras_transformer.models.heads import EncoderHead
from keras_transformer.pipelines.arguments import check_model, check_tokenizer
from keras_transformer.pipelines.servable import Call, Servable, strings
from keras_transformer.text.framing import count_tokens, cut_and_end
from keras_transformer.typing import Ids, Strings, Tensor, Tensors


class TextEncoder(Servable):
    """An encoder that takes text: [CLS] pieces [SEP], what is too long is cut.

    Subclasses write `answer` or `read_ids`, and name what they give by `numbers` and `answers`.

    Args:
        model: A model of `kt.models.heads`.
        tokenizer: The tokeniser that the model was trained with.
        max_length: Most tokens of a text, special tokens included; the model's if None.

    Raises:
        InputError: If the model or the tokeniser is anything else, or there is none.
        ValueError: If the tokeniser has more pieces than the model.
    """

    model_class = EncoderHead

    def __init__(
        self, model: EncoderHead, tokenizer: Any = None, max_length: int | None = None
    ) -> None:
        self._check(model, tokenizer)
        if len(tokenizer) > model.config.vocabulary_size:
            raise ValueError(
                f"The vocabulary has {len(tokenizer)} pieces, but the model was made for "
                f"{model.config.vocabulary_size}. They are not from the same run."
            )
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = min(max_length or model.config.max_length, model.config.max_length)
        super().__init__()

    def _check(self, model: Any, tokenizer: Any) -> None:
        check_model(model, self.model_class, type(self).__name__)
        check_tokenizer(tokenizer, type(self).__name__)

    def _all_graphs(self) -> dict[str, tuple[Callable[..., Any], Any]]:
        ids = tf.TensorSpec([None, None], tf.int32, name="ids")
        return {
            "serving_default": (self.read_text, strings("text")),
            "ids": (self.read_ids, {"ids": ids}),
            "tokenize": (self.tokenize_text, strings("text")),
        }

    def answer(self, outputs: Tensor) -> Tensors:
        """Turn what the model gives into what the signatures give, in the graph."""
        raise NotImplementedError

    def read_text(self, text: Strings) -> Tensors:
        """Answer texts in the graph.

        Args:
            text: String tensor `(B,)`. What is beyond the greatest length is cut.

        Returns:
            As `answer`.
        """
        return self.read_ids(self._pieces(text))

    def read_ids(self, ids: Ids) -> Tensors:
        """Answer pieces that have been cut elsewhere.

        Args:
            ids: Int32 tensor `(B, S)`, the pieces of each text without special tokens, padded.

        Returns:
            As `answer`.
        """
        return self.answer(self.run_model(self.framed(ids)))

    def framed(self, ids: Ids) -> Ids:
        """Put [CLS] and [SEP] around pieces: int32 `(B, S)` -> `(B, at most max_length)`."""
        config = self.model.config
        return cut_and_end(ids, self.max_length, config.end_id, config.padding_id, config.begin_id)

    def run_model(self, token_ids: Ids, segment_ids: Ids | None = None, **more: Tensor) -> Tensor:
        """Call the model.

        Args:
            token_ids: Int32 tensor `(B, S)`.
            segment_ids: Int32 tensor `(B, S)`; zeros if None.
            **more: Its other inputs.
        """
        inputs = {"token_ids": token_ids, **more}
        if self.model.config.num_segments > 1:
            inputs["segment_ids"] = tf.zeros_like(token_ids) if segment_ids is None else segment_ids
        with packing_tokens():
            return self.model(inputs, training=False)

    def tokenize_text(self, text: Strings) -> Tensors:
        """Show in the graph how text is cut into pieces, and whether all of it fits the model.

        Args:
            text: String tensor `(B,)`.

        Returns:
            Dict of `ids`, int32 `(B, S)`, padded, without special tokens, and `truncated`, bool
            `(B,)`: whether pieces would be left out.
        """
        ids = self._pieces(text)
        count = count_tokens(ids, self.model.config.padding_id)
        return {"ids": ids, "truncated": count > self.max_length - 2}

    def _pieces(self, text: Strings) -> Ids:
        padding = self.model.config.padding_id
        return self.tokenizer.tokenize(text).to_tensor(padding, shape=[None, None])

    def calls(self, texts: Sequence[str]) -> dict[str, Call]:
        """Return what each kind of file is asked on a batch of texts; see `Servable.calls`."""
        inputs = self.examples(texts)
        whole, pieces = Call("serving_default", inputs), Call("ids", self.to_ids(inputs))
        return {SAVED_MODEL: whole, "": whole, "ids": pieces}

    def examples(self, texts: Sequence[str]) -> dict[str, list[str]]:
        """Make inputs of `serving_default` of ordinary sentences."""
        return {"text": list(texts)}

    def to_ids(self, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        """Make of inputs of `serving_default` those of `ids`."""
        outputs = self.call("tokenize", **inputs)
        return {name: outputs[name] for name in self.inputs("ids")}
