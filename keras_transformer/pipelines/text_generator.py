"""Text that goes on: tokeniser, language model and search in one graph.

Shapes: B batch, N texts of a prompt, S length of the prompt, T length of what follows.
"""

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)

# isort: split

import tensorflow as tf

from keras_transformer.decoding.generate import join_rows
from keras_transformer.models.gpt import Gpt
from keras_transformer.pipelines.translator import Translator
from keras_transformer.text.framing import count_tokens


class TextGenerator(Translator):
    """A language model that takes a prompt and gives it with what follows.

    It has the signatures of `Translator`, but for those that align a target with a source. The
    texts that it gives begin with the prompt as its tokeniser writes it. An empty prompt stands for
    the beginning of a text. Of a prompt that is too long, the end stays.

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

    def _all_graphs(self):
        graphs = super()._all_graphs()
        del graphs["align"], graphs["attention"]
        return graphs

    def translate_text(self, text):
        """Go on with texts in the graph.

        Args:
            text: String tensor `(B,)`, the prompts.

        Returns:
            Dict of `text`, strings `(B,)`, and `score`, float32 `(B,)`: the log-probability of what
            follows.
        """
        outputs = self.hypotheses(text)
        return {"text": outputs["text"][:, 0], "score": outputs["score"][:, 0]}

    def hypotheses(self, text):
        """Give the best texts that begin with each prompt; see `Translator.hypotheses`."""
        prompt = self._source_ids(text)
        ids, scores = self._generate(prompt)
        return self._texts(ids, scores, prompt)

    def complete(self, text, prefix):
        """Give the best texts in which `prefix` follows the prompt; see `Translator.complete`."""
        prompt = self._source_ids(text)
        ids, scores = self._generate_ids(prompt, self._pieces(prefix))
        return self._texts(ids, scores, prompt)

    def sample(self, text, seed):
        """Draw texts that begin with each prompt; see `Translator.sample`."""
        prompt = self._source_ids(text)
        ids, scores = self._generate_ids(prompt, seeds=seed)
        return self._texts(ids, scores, prompt)

    def _texts(self, ids, scores, prompt=None):
        count = self.options.num_hypotheses
        prompts = tf.repeat(prompt, count, axis=0)
        rows = tf.reshape(ids, [-1, tf.shape(ids)[2]])
        joined = join_rows(prompts, rows, self.model.config.padding_id)
        texts = self.tokenizer.detokenize(joined)
        return {"text": tf.reshape(texts, [-1, count]), "score": scores}

    def _framed(self, ids):
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

    def _first(self, ids):
        """Say which column is the first: bool `(S,)`."""
        return tf.equal(tf.range(tf.shape(ids)[1]), 0)

    def _labels(self, target):
        """Cut the pieces of what follows; it does not have to be the end of the text."""
        ids = self._pieces(target)
        width = tf.minimum(tf.shape(ids)[1], self.max_length - 1)
        return tf.slice(ids, [0, 0], tf.stack([-1, width]))

    def next_token(self, text, target):
        """Compute the distribution of the token that follows; see `Translator.next_token`."""
        from keras_transformer.decoding import next_token_probabilities

        probabilities = next_token_probabilities(
            self.model, self._source_ids(text), self._labels(target)
        )
        return {"probabilities": probabilities}
