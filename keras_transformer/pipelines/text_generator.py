"""Text that goes on: tokeniser, language model and search in one graph.

Shapes: B batch, N texts of a prompt, S length of the prompt, T length of what follows.
"""

import tensorflow as tf

from keras_transformer.decoding.generate import join_rows
from keras_transformer.models.gpt import Gpt
from keras_transformer.pipelines.text_writer import TextWriter
from keras_transformer.text.framing import count_tokens
from keras_transformer.typing import Hypotheses, Ids, Mask, Strings


class TextGenerator(TextWriter):
    """A language model that takes a prompt and gives it with what follows.

    The texts that it gives begin with the prompt as its tokeniser writes it. An empty prompt stands
    for the beginning of a text. Of a prompt that is too long, the end stays.

    Args:
        model: A `Gpt`.
        tokenizer: The tokeniser that the model was trained with.
        options: How text is generated: `GenerationOptions`; greedily if None. `max_length` counts
            what follows; 50 tokens if None.
        jit_compile: Whether XLA compiles the model.

    Raises:
        InputError: If the model or the tokeniser is anything else, or there is none.
        ValueError: If the tokeniser has more pieces than the model.

    Example:
        writer = TextGenerator(model, tokenizer, GenerationOptions(temperature=0.8))
        writer.call("serving_default", text=["Once upon a time"])["text"]
    """

    model_class = Gpt
    task = "causal-lm"
    description = "Goes on with a text: text in, text out."

    def _texts(self, source_ids: Ids, ids: Hypotheses) -> Strings:
        """Put the prompts before what was written; see `TextWriter._texts`."""
        prompts = tf.repeat(source_ids, tf.shape(ids)[1], axis=0)
        rows = tf.reshape(ids, [-1, tf.shape(ids)[2]])
        joined = join_rows(prompts, rows, self.model.config.padding_id)
        return tf.reshape(self.tokenizer.detokenize(joined), tf.shape(ids)[:2])

    def _framed(self, ids: Ids) -> Ids:
        """Keep the end of a prompt that is too long, and begin an empty one."""
        config = self.model.config
        counts = count_tokens(ids, config.padding_id)
        ids = tf.pad(ids, [[0, 0], [0, 1]], constant_values=config.padding_id)
        ids = tf.where(
            tf.logical_and(
                tf.expand_dims(tf.equal(counts, 0), 1), tf.expand_dims(self._first(ids), 0)
            ),
            config.begin_id,
            ids,
        )
        counts = tf.maximum(counts, 1)
        longest = self.max_length - 1  # one place is left for what follows
        width = tf.minimum(tf.reduce_max(tf.concat([counts, [1]], 0)), longest)
        start = tf.expand_dims(tf.maximum(counts - longest, 0), 1)
        places = start + tf.expand_dims(tf.range(width), 0)  # (B, S)
        return tf.gather(ids, places, batch_dims=1)

    def _first(self, ids: Ids) -> Mask:
        """Return which column is the first: bool `(S,)`."""
        return tf.equal(tf.range(tf.shape(ids)[1]), 0)

    def _labels(self, target: Strings) -> Ids:
        """Cut the pieces of what follows; it does not have to be the end of the text."""
        ids = self._pieces(target)
        width = tf.minimum(tf.shape(ids)[1], self.max_length - 1)
        return tf.slice(ids, [0, 0], tf.stack([-1, width]))

    def _begun(self, target: Strings) -> Ids:
        """Cut the pieces of what follows the prompt, which has begun it."""
        return self._labels(target)
