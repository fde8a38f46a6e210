"""Does the cost of a token grow with the length, and what does a beam cost?

    python experiments/decoding.py

A model of random weights decodes 8 sources of 24 tokens to exactly 16, 32, ... tokens, with caches
and by running everything again for each token. Each line is the median of a few calls in turns.
"""

import statistics
import time

import common
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from keras_transformer.decoding import GenerationOptions, generate
from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.models.config import BEGIN_ID

ROWS, SOURCE, VOCABULARY = 8, 24, 8000
LENGTHS = (16, 32, 64, 128)
CALLS = 3


def main():
    """Measure, print a table and draw a figure."""
    options = common.options(__doc__, "decoding.png")
    model = Transformer(TransformerConfig.preset("tiny", VOCABULARY))
    rng = np.random.default_rng(0)
    sources = tf.constant(rng.integers(4, VOCABULARY, (ROWS, SOURCE)), tf.int32)
    ways = {
        "greedy": lambda length: with_caches(model, length),
        "beam 4": lambda length: with_caches(model, length, beam_size=4),
        "greedy, XLA": lambda length: with_caches(model, length, jit_compile=True),
        "everything again": lambda length: without_caches(model, length),
    }
    table = {name: [] for name in ways}
    for length in LENGTHS:
        functions = {name: make(length) for name, make in ways.items()}
        for name, seconds in in_turns(functions, sources).items():
            table[name].append(1e3 * seconds / length)
    print("Milliseconds a step, encoder included:\n")
    common.print_table(
        ["", *(f"{length} tokens" for length in LENGTHS)],
        [[name, *(f"{value:.2f}" for value in values)] for name, values in table.items()],
    )
    draw(table, options.figure)


def draw(table, path):
    """Draw the milliseconds a step at each length."""
    figure, axes = plt.subplots(figsize=(6, 4))
    for name, values in table.items():
        axes.plot(range(len(LENGTHS)), values, marker="o", label=name)
    axes.set(xlabel="tokens of the output", ylabel="milliseconds a step", yscale="log")
    axes.set_xticks(range(len(LENGTHS)), LENGTHS)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    common.save(figure, path)


def with_caches(model, length, jit_compile=False, **more):
    """Return a function that generates exactly `length` tokens."""
    options = GenerationOptions(min_length=length, max_length=length, **more)
    return tf.function(lambda ids: generate(model, ids, options, jit_compile=jit_compile)[0])


def without_caches(model, length):
    """Return a function that runs the whole model on the whole prefix for each token."""

    def following(target, source):
        logits = model({"source_ids": source, "target_ids": target}, training=False)[:, -1]
        chosen = tf.argmax(logits[:, 4:], axis=-1, output_type=tf.int32) + 4
        return tf.concat([target, chosen[:, None]], axis=1)

    shapes = [tf.TensorSpec([None, None], tf.int32)] * 2
    following = tf.function(following, input_signature=shapes)

    def run(source):
        target = tf.fill([ROWS, 1], BEGIN_ID)
        for _ in range(length):
            target = following(target, source)
        return target

    return run


def in_turns(functions, sources):
    """Call every function a few times, one after the other; return the median seconds of each."""
    seconds = {name: [] for name in functions}
    for _ in range(CALLS + 1):  # the first traces and compiles
        for name, function in functions.items():
            begin = time.perf_counter()
            function(sources).numpy()
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
