"""Training step and inference of an encoder, beside stacks of LSTM and GRU layers.

All of them read the same tokens, have some 400,000 weights beside the embedding, and give every
token one of 16 labels. Each is a process of its own, and they take turns; what counts is the ratio.
Rates depend on the machine. Keras has cuDNN's recurrent kernels on an NVIDIA GPU alone: on a
processor its layers are loops of TensorFlow's ops. What depends on no machine is how many matrix
products have to wait for one another, so those are counted as well.

    python benchmarks/recurrent.py [--length 32 128 512] [--rounds 5]
"""

import argparse
import os
import sys
import time

import progress
from contenders import Contender, contend, in_turn, limit_tensorflow
from results import beside, markdown

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

OURS = "keras_transformer"
WIDTH, VOCABULARY, LABELS, BATCH = 128, 1000, 16, 16
LENGTHS = (32, 128, 512)
TOKENS = 2**15  # of a turn, so that turns of all lengths take a similar time
PRODUCTS = ("MatMul", "BatchMatMulV2", "Einsum")


def encoder(unroll):
    """Return a stack of ours. It has no loop over time to unroll."""
    from keras_transformer.layers import Encoder, SinusoidalPositions

    stack = Encoder(2, num_heads=4, d_model=WIDTH, d_ff=4 * WIDTH, dropout=0.0)
    return [SinusoidalPositions(max(LENGTHS)), stack]


def lstm(unroll):
    """Return as many LSTM layers as have the weights of the encoder."""
    import keras

    return [keras.layers.LSTM(WIDTH, return_sequences=True, unroll=unroll) for _ in range(3)]


def gru(unroll):
    """Return as many GRU layers as have the weights of the encoder."""
    import keras

    return [keras.layers.GRU(WIDTH, return_sequences=True, unroll=unroll) for _ in range(4)]


CONTENDERS = {OURS: encoder, "LSTM": lstm, "GRU": gru}


def make_model(name, length, unroll=False):
    """Return the model, and the number of its weights beside embedding and labels."""
    import keras

    from keras_transformer.layers import TokenEmbedding

    layers = CONTENDERS[name](unroll)
    ids = keras.Input((length,), dtype="int32")
    x = TokenEmbedding(VOCABULARY, WIDTH)(ids)
    for layer in layers:
        x = layer(x)
    model = keras.Model(ids, keras.layers.Dense(LABELS)(x))
    return model, sum(layer.count_params() for layer in layers)


def longest_chain(name, length):
    """Count the matrix products of which each needs the result of the one before.

    Loops over time are unrolled, so that the graph has every product by itself.
    """
    import tensorflow as tf

    model, _ = make_model(name, length, unroll=True)
    ids = tf.TensorSpec((1, length), "int32")
    graph = tf.function(model).get_concrete_function(ids).graph
    chains = {}
    for op in graph.get_operations():  # what an operation needs comes before it
        before = max((chains[x.op.name] for x in op.inputs), default=0)
        chains[op.name] = before + (op.type in PRODUCTS)
    types = {op.type for op in graph.get_operations()}
    if hidden := [kind for kind in types if "Call" in kind or "While" in kind]:
        raise ValueError(f"Products may hide in {', '.join(sorted(hidden))}.")
    return max(chains.values())


def make(name, length):
    """Make a contender that trains or infers when told to, for `contenders.contend`."""
    limit_tensorflow()
    import keras
    import numpy as np
    import tensorflow as tf

    model, _ = make_model(name, length)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-4), loss=loss, jit_compile=False)
    rng = np.random.default_rng(0)
    ids = tf.constant(rng.integers(1, VOCABULARY, (BATCH, length)), "int32")
    labels = tf.constant(rng.integers(0, LABELS, (BATCH, length)), "int32")
    options = tf.data.Options()
    options.autotune.enabled = False  # or the end of each `fit` waits for the tuner
    data = tf.data.Dataset.from_tensors((ids, labels)).repeat().with_options(options)
    infer = tf.function(model)
    steps = TOKENS // (BATCH * length)

    def train():
        model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0)

    def read():
        for _ in range(steps):
            infer(ids)[0, 0, 0].numpy()

    tasks = {"training step": train, "inference": read}
    for task in tasks.values():
        task()

    def answer(asked):
        begin = time.perf_counter()
        tasks[asked["task"]]()
        return {"rate": TOKENS / (time.perf_counter() - begin)}

    return {}, answer


def rows(shown, lengths=LENGTHS, rounds=5):
    """Compare the contenders at every length.

    Args:
        shown: A `Progress`.
        lengths: Of the texts, in tokens.
        rounds: Turns of each process.

    Returns:
        A list of `results.Row`.
    """
    tasks = "training step", "inference"
    found = {task: [] for task in tasks}
    with shown.subject("recurrent", len(lengths) * (1 + rounds)) as step:
        for length in lengths:
            setting = f"{BATCH} x {length} tokens"
            step(f"{setting}: making models and warming up")
            children = [Contender(name, __file__, "--contend", name, length) for name in CONTENDERS]
            for child in children:
                child.wait()
            rates = {(task, name): [] for task in tasks for name in CONTENDERS}
            for turn in range(rounds):
                step(f"{setting}: turn {turn + 1} of {rounds}")
                for task in tasks:
                    for child in in_turn(children, turn):
                        rates[task, child.name].append(child.ask(task=task))
            for child in children:
                child.close()

            missing = {child.name: child.missing for child in children if child.missing}
            for task in tasks:
                measured = {
                    name: missing.get(name) or [one["rate"] for one in rates[task, name]]
                    for name in CONTENDERS
                }
                found[task] += beside(task, setting, "tokens/s", [OURS], measured)
    return [row for some in found.values() for row in some]


def counts(lengths=LENGTHS):
    """Write what the clock has no part in, as a table."""
    lines = []
    for name in CONTENDERS:
        _, weights = make_model(name, min(lengths))
        chains = (f"{longest_chain(name, length):,}" for length in lengths)
        lines.append([name, f"{weights:,}", *chains])
    return markdown(["", "weights", *(f"{length} tokens" for length in lengths)], lines)


def main():
    """Run all contenders and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--length", dest="lengths", type=int, choices=LENGTHS, nargs="*", default=list(LENGTHS)
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each process")
    options = parser.parse_args()
    progress.run_alone("recurrent", rows, options)
    # It loads TensorFlow into this process, which would have disturbed the others.
    print(f"\n## Products that wait for one another\n\n{counts(options.lengths)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contend"]:
        contend(lambda: make(sys.argv[2], int(sys.argv[3])))
    else:
        main()
