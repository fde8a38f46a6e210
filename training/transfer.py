"""From one model to another: fine-tuning begins with the weights of a model that is trained."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from keras_transformer._backend import keras
from keras_transformer.errors import InputError

# Layers that belong to a task, not to what reads the text or the picture.
HEADS = ("pooler", "transform", "transform_norm", "logits", "logits_bias", "layer_mix")


@dataclasses.dataclass(frozen=True)
class Transfer:
    """The weights that a model took over from another.

    Args:
        taken: Paths of the weights it took.
        new: Paths of its weights that the other does not have: a head of its own.
    """

    taken: list[str]
    new: list[str]


def transfer_weights(source: keras.Model, target: keras.Model) -> Transfer:
    """Copy all weights that two models have in common, by their names.

    Heads that differ in size, such as those for other labels, stay as they are in the target.

    Args:
        source: A trained model.
        target: The model that goes on.

    Raises:
        InputError: If weights outside of the head differ in shape, or there is none in common.
    """
    given = {weight.path: weight for weight in source.weights}
    taken, new = [], []
    for weight in target.weights:
        if weight.name == "seed_generator_state":  # of dropout: each run has its own
            continue
        other = given.get(weight.path)
        is_head = weight.path.split("/")[0] in HEADS
        if other is None or (is_head and other.shape != weight.shape):
            new.append(weight.path)
            continue
        if other.shape != weight.shape:
            raise InputError(
                f"{weight.path} has shape {tuple(other.shape)} in the model to begin with, but "
                f"{tuple(weight.shape)} in the new one. Leave out what changes its size."
            )
        weight.assign(other)
        taken.append(weight.path)
    if not taken:
        raise InputError("The model to begin with has no weights that the new one could take.")
    return Transfer(taken, new)


def freeze(model: keras.Model) -> None:
    """Keep everything but the head as it is in training.

    Raises:
        InputError: If the model has no head: nothing would be trained.
    """
    heads = [layer for layer in model.layers if layer.name in HEADS]
    if not any(layer.trainable_weights for layer in heads):
        raise InputError("freeze leaves nothing to train: the model has no head of its own.")
    for layer in model.layers:
        layer.trainable = layer in heads


def describe(transfer: Transfer, weights: Iterable[keras.Variable]) -> str:
    """Describe what was taken over, and what is new.

    Args:
        transfer: What `transfer_weights` returned.
        weights: All weights of the target.
    """
    sizes = {weight.path: int(np.prod(weight.shape)) for weight in weights}
    taken, new = (sum(sizes[path] for path in paths) for paths in (transfer.taken, transfer.new))
    names = sorted({path.split("/")[0] for path in transfer.new})
    rest = f"; {new:,} are new ({', '.join(names)})" if new else ""
    return f"Took over {taken:,} weights{rest}"
