"""From lists of texts to arrays that `model.fit` takes, where everything fits in memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_transformer.errors import InputError
from keras_transformer.text import Tokenizer
from keras_transformer.text.framing import frame


def make_arrays(
    sources: Sequence[str], targets: Sequence[str], tokenizer: Tokenizer
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Make inputs and labels of a `Transformer` out of pairs of texts.

    Teacher forcing: the decoder's input is the target shifted right by one.

    Args:
        sources: The texts to translate.
        targets: What is right for each.
        tokenizer: Cuts text into ids.

    Returns:
        Tuple of the inputs, int32 `source_ids` `(N, S)` and `target_ids` `(N, T)`, and the labels,
        int32 `(N, T)`, all padded: source and end token, begin token and target, target and end
        token.

    Raises:
        InputError: If there are no pairs, or not as many sources as targets.

    Example:
        inputs, labels = kt.training.make_arrays(sources, targets, tokenizer)
        model.fit(inputs, labels, epochs=10)
    """
    if len(sources) != len(targets) or not len(sources):
        raise InputError(
            f"There are {len(sources)} sources and {len(targets)} targets; give at least one pair, "
            "and each source its target."
        )
    begin, end = [tokenizer.begin_id], [tokenizer.end_id]
    source, target = tokenizer(list(sources)), tokenizer(list(targets))

    def dense(rows: Any) -> np.ndarray:
        array: np.ndarray = rows.to_tensor(tokenizer.padding_id).numpy()
        return array

    inputs = {
        "source_ids": dense(frame(source, [], end)),
        "target_ids": dense(frame(target, begin, [])),
    }
    return inputs, dense(frame(target, [], end))
