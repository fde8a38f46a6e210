"""Streaming: text that appears while it is generated."""

import codecs
from collections.abc import Iterator

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)

# isort: split

import tensorflow as tf

from keras_transformer.decoding.generate import encode, make_search
from keras_transformer.decoding.search import ROOM
from keras_transformer.errors import InputError


class Stream:
    """Generates one target and yields its text piece by piece.

    The search is the one that `generate` runs, taken step by step. What is traced is traced once,
    whatever the lengths.

    Args:
        model: A `Transformer`.
        tokenizer: The tokeniser that the model was trained with.
        options: `GenerationOptions`: greedy, or sampling of one hypothesis.

    Raises:
        InputError: If the options ask for more than one hypothesis.
    """

    def __init__(self, model, tokenizer, options):
        if options.width > 1:
            name = "num_hypotheses" if options.samples else "beam_size"
            raise InputError(
                f"Streaming follows one hypothesis, got {name}={options.width}: with several of "
                "them nothing is known to stay until the end. Set it to 1."
            )
        search = make_search(model, options)

        def start(source_ids):
            arguments = encode(model, source_ids, options)
            return search.start(**arguments), arguments["max_length"]

        def advance(state):
            state = search.advance(state)
            text = tokenizer.detokenize(state["rows"]["ids"][:, 0])
            return state, text[0], state["rows"]["done"][0]

        self._start = tf.function(start, input_signature=[tf.TensorSpec([1, None], tf.int32)])
        self._grow = tf.function(lambda state: search.grow(state, ROOM), reduce_retracing=True)
        self._advance = tf.function(advance, reduce_retracing=True)
        self._traced = False

    def __call__(self, source_ids) -> Iterator[str]:
        """Yield the target of one source, ids `(1, S)`, in pieces of whole characters."""
        state, longest = self._start(source_ids)
        characters = codecs.getincrementaldecoder("utf-8")(errors="replace")
        if not self._traced:
            self._trace(state)
        seen = 0  # bytes of the text so far
        done = bool(state["rows"]["done"][0])
        for index in range(int(longest)):
            if done:
                break
            if index % ROOM == 0:
                state = self._grow(state)
            state, text, done = self._advance(state)
            text = text.numpy()
            done = bool(done)
            piece = characters.decode(text[seen:])
            seen = len(text)
            if piece:
                yield piece
        if rest := characters.decode(b"", final=True):
            yield rest

    def _trace(self, state):
        """Trace both functions for every length at once."""

        def any_length(tensor):
            dimensions = tensor.shape.as_list()
            known = [None if i == 2 else d for i, d in enumerate(dimensions)]
            return tf.TensorSpec([None] if len(known) == 1 else known, tensor.dtype)

        spec = tf.nest.map_structure(any_length, state)
        self._grow.get_concrete_function(spec)
        self._advance.get_concrete_function(spec)
        self._traced = True
