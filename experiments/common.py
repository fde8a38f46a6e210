"""What the experiments share: a task that a tiny model learns, tables and figures."""

import argparse
from pathlib import Path

from keras_transformer import _backend  # noqa: F401  # isort: skip  (it keeps TensorFlow quiet)
import keras
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf  # noqa: F401  (for the experiments; imported here, it is quiet)

from keras_transformer.models import Transformer, TransformerConfig

mpl.use("Agg")  # into files; there may be no screen

LENGTH = 8
SYMBOLS = 16
FIRST = 4  # ids 0 to 3 are padding, unknown, begin and end
VOCABULARY = FIRST + SYMBOLS


def options(doc, figure):
    """Read the command line: how many seeds, and where the figure goes."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--figure", type=Path, default=Path("docs/figures") / figure)
    return parser.parse_args()


def reversal(seed, rows, noise=0.0):
    """Make sequences to reverse.

    Args:
        seed: Of the random numbers.
        rows: How many pairs.
        noise: The share of target tokens that are replaced by any symbol at random.

    Returns:
        The model's inputs and the labels.
    """
    rng = np.random.default_rng(seed)
    source = rng.integers(FIRST, VOCABULARY, (rows, LENGTH)).astype("int32")
    target = source[:, ::-1].copy()
    replaced = rng.random(target.shape) < noise
    target[replaced] = rng.integers(FIRST, VOCABULARY, int(replaced.sum()))
    begin, end = np.full((rows, 1), 2, "int32"), np.full((rows, 1), 3, "int32")
    target = np.concatenate([begin, target, end], axis=1)
    source = np.concatenate([source, end], axis=1)
    return {"source_ids": source, "target_ids": target[:, :-1]}, target[:, 1:]


def tiny_model(seed, **changes):
    """Make a model for the task, without dropout unless asked for, and set all seeds."""
    keras.utils.set_random_seed(seed)
    fields = {
        "num_layers": 2,
        "num_heads": 4,
        "d_model": 64,
        "d_ff": 128,
        "dropout": 0.0,
        "embedding_dropout": 0.0,
        "max_length": LENGTH + 1,
        **changes,
    }
    return Transformer(TransformerConfig(VOCABULARY, **fields))


def show(values, form=".3f"):
    """Write the mean of a few values, and how far they spread."""
    return f"{np.mean(values):{form}} ± {np.std(values):{form}}"


def print_table(header, rows):
    """Print a table in Markdown."""
    for row in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(row)} |")


def save(figure, path):
    """Write a figure as a small PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)
    print(f"\nFigure: {path}")
