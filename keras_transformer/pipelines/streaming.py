"""Streaming: the search of `generate`, taken apart into steps, so that text appears while written.

Between two steps the state of the search is outside of the graph, as tensors by name, and whoever
runs the graph hands them back. So it works in the same way in Python, in a SavedModel and in a
`.tflite`. `TextToText.stream` is the loop.
"""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from keras import tree

from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.decoding.generate import encode, join_rows, make_search
from keras_transformer.decoding.state import Beginning, SearchState
from keras_transformer.errors import InputError
from keras_transformer.models.model import ConfiguredModel
from keras_transformer.text.tokenizer import Tokenizer
from keras_transformer.typing import Ids, Nested, Tensor, Tensors


class Stream:
    """The two graphs of a search that follows one hypothesis of each source.

    Args:
        model: A `Transformer`.
        tokenizer: The tokeniser that the model was trained with.
        options: `GenerationOptions`: greedy, or sampling of one hypothesis.

    Raises:
        InputError: If the options ask for more than one hypothesis.
    """

    def __init__(
        self, model: ConfiguredModel, tokenizer: Tokenizer, options: GenerationOptions
    ) -> None:
        if options.width > 1:
            name = "num_hypotheses" if options.samples else "beam_size"
            raise InputError(
                f"Streaming follows one hypothesis, got {name}={options.width}: with several of "
                "them nothing is known to stay until the end. Set it to 1."
            )
        self._search = make_search(model, options)
        self._encode: Callable[[Ids], Beginning] = lambda ids: encode(model, ids, options)
        self._tokenizer = tokenizer
        self._continues = getattr(model, "continues", False)
        self._padding_id = model.config.padding_id
        self._names: list[str] = []  # of the state's tensors
        self._structure = None  # of the search's own state

    def start(self, source_ids: Ids) -> Tensors:
        """Encode sources in the graph.

        Args:
            source_ids: Int32 tensor `(B, S)`, each row ended by the end token and padded with 0.

        Returns:
            The state before the first step: a dict of tensors, among them `rows_done`, bool `(B,)`.
        """
        arguments = self._encode(source_ids)
        state = self._search.start(**arguments)
        # All of the room at once: tensors that grew would have to be copied by the caller.
        state = self._search.grow(state, arguments["max_length"])
        # Slots are the numbers of the places that there is room for, and go without saying.
        kept = _without_slots(state)
        flat = _by_name(kept)
        self._structure = tree.map_structure(lambda tensor: None, kept)
        self._names = list(flat)
        # What goes on from a prompt is written behind it.
        return {**flat, "prompt": source_ids} if self._continues else flat

    def step(self, **state: Tensor) -> Tensors:
        """Take one step in the graph.

        Args:
            state: The tensors of the state, by name. `start` has to have been traced.

        Returns:
            A dict of those of them that have changed, and `text`, string `(B,)`: the target so
            far, which may end within a character.
        """
        tensors = [state[name] for name in self._names]
        before: SearchState = tree.pack_sequence_as(self._structure, tensors)
        room = tf.shape(before["rows"]["ids"])[2]
        with tf.control_dependencies(_check_lengths(before["rows"]["cache"], room)):
            slots = tf.range(room)
        new = _without_slots(self._search.advance({**before, "slots": slots}))
        changed = {name: x for name, x in _by_name(new).items() if x is not state[name]}
        ids = new["rows"]["ids"][:, 0]
        if self._continues:
            ids = join_rows(state["prompt"], ids, self._padding_id)
        return {**changed, "text": self._tokenizer.detokenize(ids)}


def _check_lengths(cache: Mapping[str, Nested], room: Tensor) -> list[Any]:
    """Return assertions that keys and values are as many as the masks over them.

    TensorFlow's fused kernels read beyond a mask that is too short.
    """
    lengths = {"target": room, "memory": tf.shape(cache["memory_bias"])[2]}
    return [
        tf.debugging.assert_equal(tf.shape(x)[2], length, f"The {side} caches do not fit.")
        for side, length in lengths.items()
        for x in tree.flatten(cache[side])
    ]


def _without_slots(state: SearchState) -> dict[str, Any]:
    return {name: part for name, part in state.items() if name != "slots"}


def _by_name(state: Nested) -> Tensors:
    return {"_".join(map(str, path)): x for path, x in tree.flatten_with_path(state)}
