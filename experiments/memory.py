"""Does a training step take the memory that the formula says, and what does each technique save?

    python experiments/memory.py

Every line is a process of its own: its peak while it trains, less what it held after the same
training of a model 8 wide, so that TensorFlow's code and graphs do not count. The last two lines
compare the loss's gradient in closed form with automatic differentiation.
"""

import json
import subprocess
import sys

ROWS, LENGTH = 32, 64
STEPS = {
    "plain": {},
    "half the batch": {"rows": ROWS // 2},
    "4 micro-batches": {"accumulate": 4},
    "recomputation": {"recompute": True},
    "mixed_bfloat16": {"precision": "mixed_bfloat16"},
    "Adafactor": {"optimizer": "adafactor"},
}
LOSSES = {"closed form": {"loss": "closed"}, "automatic": {"loss": "automatic"}}
LOGITS = (64, 128, 8000)


def main():
    """Print both tables, or be one line of them."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(**json.loads(sys.argv[1]))))
        return
    print(f"{ROWS} x {LENGTH} tokens, 6+6 layers, 256 wide, 8,000 pieces")
    print("| step | formula | measured |\n| --- | --- | --- |")
    for name, settings in STEPS.items():
        formula, peak = in_a_process(settings)
        print(f"| {name} | {formula / 1e6:,.0f} MB | {peak / 1e6:,.0f} MB |", flush=True)
    print("\n| gradient of the loss | logits | measured beside them |\n| --- | --- | --- |")
    for name, settings in LOSSES.items():
        logits, peak = in_a_process(settings)
        print(f"| {name} | {logits / 1e6:,.0f} MB | {peak / 1e6:,.0f} MB |", flush=True)


def in_a_process(settings):
    """Measure in a process of its own."""
    command = [sys.executable, __file__, json.dumps(settings)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def measure(loss=None, **settings):
    """Return what was expected and the measured peak, in bytes."""
    return measure_loss(loss) if loss else measure_step(**settings)


def measure_step(rows=ROWS, accumulate=1, recompute=False, precision="float32", optimizer="adam"):
    """Train a few steps."""
    import numpy as np

    import keras_transformer as kt
    from keras_transformer.training.memory import estimate_memory
    from keras_transformer.training.optimizers import OPTIMIZERS

    def configure(width, vocabulary):
        return kt.models.TransformerConfig(
            vocabulary,
            num_layers=6,
            num_heads=4,
            d_model=width,
            d_ff=4 * width,
            recompute=recompute,
        )

    def train(config):
        ids = np.random.default_rng(0).integers(4, config.vocabulary_size, (rows, LENGTH))
        model = kt.models.Transformer(config, dtype=precision)
        model.compile(
            OPTIMIZERS[optimizer](1e-4), kt.training.CrossEntropy(0.1), accumulate=accumulate
        )
        inputs = {"source_ids": ids, "target_ids": ids}
        model.fit(inputs, ids, batch_size=rows, epochs=3, verbose=0)

    train(configure(8, 10))
    config = configure(256, 8000)
    expected = estimate_memory(
        config, rows, LENGTH, precision=precision, optimizer=optimizer, accumulate=accumulate
    )
    return expected.total, peak(lambda: train(config))


def measure_loss(kind):
    """Compute the gradient of the loss by the logits."""
    import keras
    import tensorflow as tf

    from keras_transformer.training.losses import token_cross_entropy

    def automatic(labels, logits):
        losses = keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        uniform = -keras.ops.mean(keras.ops.log_softmax(logits), axis=-1)
        return keras.ops.sum(0.9 * losses + 0.1 * uniform)

    labels = tf.ones(LOGITS[:2], "int32")

    @tf.function(jit_compile=False)
    def gradient():
        # As in a model, the logits belong to nobody else and may be let go.
        logits = tf.random.stateless_uniform(LOGITS, [0, 0])
        with tf.GradientTape() as tape:
            tape.watch(logits)
            if kind == "closed":
                loss, _ = token_cross_entropy(labels, logits, 0.1)
            else:
                loss = automatic(labels, logits)
        return tf.reduce_sum(tape.gradient(loss, logits), axis=-1)

    size = 4 * LOGITS[0] * LOGITS[1] * LOGITS[2]
    return size, peak(gradient) - size


def peak(function):
    """Return how far the memory of this process rises."""
    before = memory("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    function()
    return memory("VmHWM") - before


def memory(name):
    """Read a figure of this process, in bytes; Linux only."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) * 1024


if __name__ == "__main__":
    main()
