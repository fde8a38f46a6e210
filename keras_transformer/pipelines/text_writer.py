"""Text generation: tokeniser, model and search in one graph.

It is what a training run samples from, what the command line runs on a run folder, and what the
SavedModel and the `.tflite` are made of: there is one path from text to text. `Translator` and
`TextGenerator` say how a text is read and how what is written follows it.

Shapes: B batch, N targets of a source, S source length, T target length.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from keras_transformer.artefacts.artefact import SAVED_MODEL, decode
from keras_transformer.artefacts.text_to_text import TextToText
from keras_transformer.decoding import (
    GenerationOptions,
    generate,
    logits_of,
    next_token_probabilities,
    score,
)
from keras_transformer.models.model import ConfiguredModel
from keras_transformer.pipelines.arguments import check_model, check_tokenizer
from keras_transformer.pipelines.servable import Call, Servable, strings
from keras_transformer.pipelines.streaming import Stream
from keras_transformer.text import WordPieceTokenizer
from keras_transformer.text.framing import count_tokens
from keras_transformer.typing import Hypotheses, Ids, Logits, Strings, Tensor, Tensors


class TextWriter(Servable, TextToText):
    """A model that takes text and writes text.

    Args:
        model: An encoder and a decoder, or a language model; `model_class` says which.
        tokenizer: The tokeniser that the model was trained with.
        options: How text is written: `GenerationOptions`; greedily if None.
        jit_compile: Whether XLA compiles the model: faster once every shape has been compiled.

    Raises:
        InputError: If the model or the tokeniser is anything else, or there is none.
        ValueError: If the tokeniser has more or fewer pieces than the model.
    """

    gives = "text"
    model_class: ClassVar[type[ConfiguredModel]]

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        options: GenerationOptions | None = None,
        jit_compile: bool = False,
    ) -> None:
        check_model(model, self.model_class, type(self).__name__)
        check_tokenizer(tokenizer, type(self).__name__)
        size = model.config.vocabulary_size
        # Published tables may be rounded up; one of ours is as large as its vocabulary.
        ours = isinstance(tokenizer, WordPieceTokenizer)
        if len(tokenizer) > size or (ours and len(tokenizer) != size):
            raise ValueError(
                f"The vocabulary has {len(tokenizer)} pieces, but the model was made for "
                f"{model.config.vocabulary_size}. They are not from the same run."
            )
        self.model = model
        self.tokenizer = tokenizer
        self.options = options or GenerationOptions()
        self.jit_compile = jit_compile
        self.max_length = model.config.max_length
        # Traced once, and shared by every signature that is made of it.
        self._generate = tf.function(
            self._generate_ids,
            input_signature=[tf.TensorSpec([None, None], tf.int32)],
            autograph=False,
        )
        super().__init__()

    def _all_graphs(self) -> dict[str, tuple[Callable[..., Any], Any]]:
        """Return each signature's function, and what it takes."""
        graphs: dict[str, tuple[Callable[..., Any], Any]] = {
            "serving_default": (self.write_text, strings("text")),
            "translate": (self.hypotheses, strings("text")),
            "complete": (self.complete, strings("text", "prefix")),
            "score": (self.score_text, strings("text", "target")),
            "next_token": (self.next_token, strings("text", "target")),
            "tokenize": (self.tokenize_text, strings("text")),
            "ids": (self.write_ids, {"ids": tf.TensorSpec([None, None], tf.int32, name="ids")}),
        }
        if self.options.samples:
            seed = tf.TensorSpec([None], tf.int32, name="seed")
            graphs["sample"] = (self.sample, {**strings("text"), "seed": seed})
        kind, options = "stream", self.options
        if options.width > 1:
            kind, options = "draft", options.following_one()
        stream = Stream(self.model, self.tokenizer, options)

        def start(text: Strings) -> Tensors:
            return stream.start(self._source_ids(text))

        def state() -> dict[str, tf.TensorSpec]:
            outputs = self.function(f"{kind}_start").structured_outputs
            return {name: tf.TensorSpec(x.shape, x.dtype, name=name) for name, x in outputs.items()}

        graphs[f"{kind}_start"] = (start, strings("text"))
        graphs[f"{kind}_step"] = (stream.step, state)
        return graphs

    def _generate_ids(
        self, source_ids: Ids, prefix_ids: Ids | None = None, seeds: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        ids, scores = generate(
            self.model, source_ids, self.options, prefix_ids, seeds, self.jit_compile
        )
        if self.options.num_hypotheses == 1:
            ids, scores = tf.expand_dims(ids, 1), tf.expand_dims(scores, 1)
        return ids, scores

    def write_text(self, text: Strings) -> Tensors:
        """Write a text for each text in the graph.

        Args:
            text: String tensor `(B,)`. What is beyond the model's `max_length` is cut.

        Returns:
            Dict of `text`, strings `(B,)`, and `score`, float32 `(B,)`: the log-probability of
            the output, which beam search divides by the length penalty. An empty text gives an
            empty text.
        """
        source = self._source_ids(text)
        ids, scores = self._generate(source)
        return {"text": self._texts(source, ids[:, :1])[:, 0], "score": scores[:, 0]}

    def hypotheses(self, text: Strings) -> Tensors:
        """Give the best targets of each text in the graph.

        Args:
            text: String tensor `(B,)`.

        Returns:
            Dict of `text`, strings `(B, N)`, and `score`, float32 `(B, N)`, best first. Where there
            are fewer than N, the rest are empty and score minus infinity.
        """
        source = self._source_ids(text)
        return self._hypotheses(source, *self._generate(source))

    def complete(self, text: Strings, prefix: Strings) -> Tensors:
        """Give the best targets that begin as asked for, in the graph.

        Args:
            text: String tensor `(B,)`.
            prefix: String tensor `(B,)`: what each target begins with; empty for anything.

        Returns:
            As `hypotheses`.
        """
        source = self._source_ids(text)
        return self._hypotheses(source, *self._generate_ids(source, self._pieces(prefix)))

    def sample(self, text: Strings, seed: Tensor) -> Tensors:
        """Draw targets of each text in the graph.

        Args:
            text: String tensor `(B,)`.
            seed: Int32 tensor `(B,)`, in place of the options' seed. The same seed and text give
                the same targets.

        Returns:
            As `hypotheses`.
        """
        source = self._source_ids(text)
        return self._hypotheses(source, *self._generate_ids(source, seeds=seed))

    def _hypotheses(self, source_ids: Ids, ids: Hypotheses, scores: Tensor) -> Tensors:
        texts = self._texts(source_ids, ids)
        return {"text": tf.reshape(texts, [-1, self.options.num_hypotheses]), "score": scores}

    def _texts(self, source_ids: Ids, ids: Hypotheses) -> Strings:
        """Turn what was written for rows `(B, S)`, int32 `(B, N, T)`, into strings `(B, N)`."""
        texts = self.tokenizer.detokenize(tf.reshape(ids, [-1, tf.shape(ids)[2]]))
        return tf.reshape(texts, tf.shape(ids)[:2])

    def write_ids(self, ids: Ids) -> Tensors:
        """Write for pieces that have been cut elsewhere.

        Args:
            ids: Int32 tensor `(B, S)`, the pieces of each text without begin or end token, padded
                with 0. What is beyond the model's `max_length` is cut.

        Returns:
            Dict of `ids`, int32 `(B, T)`, ended by the end token and padded with 0, and `score`,
            float32 `(B,)`; with `num_hypotheses` N > 1, `(B, N, T)` and `(B, N)`.
        """
        target, scores = self._generate(self._framed(ids))
        if self.options.num_hypotheses == 1:
            target, scores = target[:, 0], scores[:, 0]
        # LiteRT's CompiledModel hands the outputs' memory over. A loop that comes last writes to
        # memory of its own instead, and the caller reads nothing.
        return {"ids": tf.maximum(target, 0), "score": scores}

    def score_text(self, text: Strings, target: Strings) -> Tensors:
        """Compute how likely given targets are.

        Args:
            text: String tensor `(B,)`.
            target: String tensor `(B,)`.

        Returns:
            Dict of `score`, float32 `(B,)`, the log-probability of the target; `tokens`, int32
            `(B,)`, their number with the end token; and `truncated`, bool `(B,)`: whether source
            or target were cut because the model takes no more.
        """
        source, labels = self._pair(text, target)
        shares = score(self.model, source, labels)
        lengths = [self._count(self._pieces(side)) for side in (text, target)]
        return {
            "score": tf.reduce_sum(shares, axis=1),
            "tokens": self._count(labels),
            "truncated": tf.maximum(*lengths) >= self.max_length,
        }

    def next_token(self, text: Strings, target: Strings) -> Tensors:
        """Compute the distribution of the token that follows a part of a target.

        Args:
            text: String tensor `(B,)`.
            target: String tensor `(B,)`, how the target begins.

        Returns:
            Dict of `probabilities`, float32 `(B, V)`, in the order of the vocabulary.
        """
        source = self._source_ids(text)
        probabilities = next_token_probabilities(self.model, source, self._begun(target))
        return {"probabilities": probabilities}

    def tokenize_text(self, text: Strings) -> Tensors:
        """Show in the graph how text is cut into pieces, and whether all of it fits the model.

        Args:
            text: String tensor `(B,)`.

        Returns:
            Dict of `ids`, int32 `(B, S)`, padded with 0, and `truncated`, bool `(B,)`: whether
            `write_text` would leave pieces out.
        """
        ids = self._pieces(text)
        return {"ids": ids, "truncated": self._count(ids) >= self.max_length}

    def teacher_forced(
        self, texts: Sequence[str], targets: Sequence[str]
    ) -> tuple[Logits, Ids, Any]:
        """Return the logits `(B, T, V)` of targets, their ids `(B, T)`, and the sources' length."""
        source, labels = self._pair(tf.constant(texts), tf.constant(targets))
        return logits_of(self.model, source, labels), labels, source.shape[1]

    def _pieces(self, text: Strings) -> Ids:
        padding = self.model.config.padding_id
        return self.tokenizer.tokenize(text).to_tensor(padding, shape=[None, None])

    def _source_ids(self, text: Strings) -> Ids:
        return self._framed(self._pieces(text))

    def _framed(self, ids: Ids) -> Ids:
        """Cut pieces `(B, S)` and frame them, as the model reads what it is given."""
        raise NotImplementedError

    def _labels(self, target: Strings) -> Ids:
        """Cut texts `(B,)` into pieces `(B, T)`, as the model writes them."""
        raise NotImplementedError

    def _begun(self, target: Strings) -> Ids:
        """Cut texts `(B,)` into pieces `(B, T)` to go on from."""
        raise NotImplementedError

    def _pair(self, text: Strings, target: Strings) -> tuple[Ids, Ids]:
        return self._source_ids(text), self._labels(target)

    def _count(self, ids: Ids) -> Tensor:
        return count_tokens(ids, self.model.config.padding_id)

    # --- Proof ------------------------------------------------------------------------------------

    def calls(self, texts: Sequence[str]) -> dict[str, Call]:
        """Return what each kind of file is asked on a batch of texts; see `Servable.calls`."""
        whole = Call("translate", {"text": list(texts)})
        pieces = Call("ids", {"ids": self.tokenize(texts)[0]})
        return {SAVED_MODEL: whole, "": whole, "ids": pieces}

    def written(self, call: Call, outputs: dict[str, np.ndarray]) -> tuple[list[str], list[float]]:
        """Return the best text of each row that a file gave in answer to a call, and its score."""
        score = outputs["score"].reshape(len(outputs["score"]), -1)[:, 0].tolist()
        if call.signature != "ids":
            return decode(outputs["text"][:, 0].tolist()), score
        ids = outputs["ids"]
        best = tf.constant(ids if ids.ndim == 2 else ids[:, 0])
        texts = self._texts(self._framed(tf.constant(call.inputs["ids"])), best[:, tf.newaxis])
        return decode(texts[:, 0].numpy().tolist()), score
