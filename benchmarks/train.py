"""The training step, beside keras-hub's layers with `fit` and torch.nn.Transformer.

Every contender is a process of its own that trains the same shapes on random tokens: an
encoder-decoder with tied embeddings, dropout 0.1, label smoothing 0.1 and Adam. They take turns, a
few steps each, so that what disturbs the machine disturbs all of them; what counts is the ratio.

    python benchmarks/train.py [--shape small|base] [--starts 3] [--rounds 5]
"""

import argparse
import os
import statistics
import sys
import time

import progress
from contenders import Contender, contend, in_turn
from results import beside

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

VOCABULARY = 8000
SHAPES = {  # layers, width, heads, feed-forward, batch, length, steps a turn
    "small": (3, 256, 4, 1024, 64, 32, 5),
    "base": (6, 512, 8, 2048, 16, 32, 2),
}
OURS = "keras_transformer"
QUICK = {"shapes": ["small"], "starts": 1, "rounds": 3}


def work(shape):
    """Count the floating-point operations of a step's matrix products."""
    from keras_transformer.models import TransformerConfig, flops

    layers, width, heads, d_ff, batch, length, _ = SHAPES[shape]
    config = TransformerConfig(
        VOCABULARY, num_layers=layers, num_heads=heads, d_model=width, d_ff=d_ff
    )
    return batch * flops.training_step(config, length, length).flops


def batches(shape):
    """Make random ids: source, decoder input, labels."""
    import numpy as np

    *_, batch, length, _ = SHAPES[shape]
    rng = np.random.default_rng(0)
    return [rng.integers(4, VOCABULARY, (batch, length), dtype="int32") for _ in range(3)]


def with_keras_transformer(shape):
    """Train with this package."""
    import keras_transformer as kt

    layers, width, heads, d_ff, *_ = SHAPES[shape]
    config = kt.models.TransformerConfig(
        VOCABULARY, num_layers=layers, num_heads=heads, d_model=width, d_ff=d_ff
    )
    model = kt.models.Transformer(config)
    model.compile(
        kt.training.paper_adam(1e-4),
        loss=kt.training.CrossEntropy(label_smoothing=0.1),
        jit_compile=False,
    )
    return _fit(model, shape, lambda s, t: {"source_ids": s, "target_ids": t})


def with_keras_hub(shape):
    """Train with keras-hub's encoder and decoder layers."""
    import keras
    import keras_hub

    layers, width, heads, d_ff, _, length, _ = SHAPES[shape]
    table = keras_hub.layers.ReversibleEmbedding(VOCABULARY, width)
    positions = keras_hub.layers.SinePositionEncoding()

    def embed(ids):
        x = table(ids)
        return keras.layers.Dropout(0.1)(x + positions(x))

    source = keras.Input((length,), dtype="int32")
    target = keras.Input((length,), dtype="int32")
    memory = embed(source)
    for _ in range(layers):
        memory = keras_hub.layers.TransformerEncoder(d_ff, heads, dropout=0.1)(
            memory, padding_mask=keras.ops.not_equal(source, 0)
        )
    x = embed(target)
    for _ in range(layers):
        x = keras_hub.layers.TransformerDecoder(d_ff, heads, dropout=0.1)(
            x, memory, encoder_padding_mask=keras.ops.not_equal(source, 0)
        )
    model = keras.Model([source, target], table(x, reverse=True))

    def loss(labels, logits):
        # Keras has no label smoothing for integer labels; these are the same few lines of ops.
        losses = keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        log_p = keras.ops.log_softmax(logits)
        uniform = -keras.ops.mean(log_p, axis=-1)
        return keras.ops.mean(0.9 * losses + 0.1 * uniform)

    model.compile(keras.optimizers.Adam(1e-4, 0.9, 0.98, 1e-9), loss=loss, jit_compile=False)
    return _fit(model, shape, lambda s, t: [s, t])


def _fit(model, shape, inputs):
    import tensorflow as tf

    source, target, labels = (tf.constant(x) for x in batches(shape))
    structure = (inputs(source, target), labels)
    if isinstance(structure[0], list):
        structure = (tuple(structure[0]), labels)
    options = tf.data.Options()
    # With tuning, the end of each `fit` waits for the tuner, up to as long as it ran.
    options.autotune.enabled = False
    data = tf.data.Dataset.from_tensors(structure).repeat().with_options(options)
    return lambda steps: model.fit(data, steps_per_epoch=steps, verbose=0, shuffle=False)


def with_torch(shape):
    """Train with torch.nn.Transformer."""
    import math

    import torch

    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count())
    layers, width, heads, d_ff, _, length, _ = SHAPES[shape]
    source, target, labels = (torch.from_numpy(x).long() for x in batches(shape))
    table = torch.nn.Embedding(VOCABULARY, width)
    model = torch.nn.Transformer(
        width, heads, layers, layers, d_ff, dropout=0.1, batch_first=True
    ).train()
    angles = torch.arange(length)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
    positions = torch.stack([angles.sin(), angles.cos()], -1).reshape(length, width)
    drop = torch.nn.Dropout(0.1)
    causal = torch.nn.Transformer.generate_square_subsequent_mask(length)
    criterion = torch.nn.CrossEntropyLoss(ignore_index=0, label_smoothing=0.1)
    optimizer = torch.optim.Adam(
        [*table.parameters(), *model.parameters()], 1e-4, (0.9, 0.98), 1e-9
    )

    def embed(ids):
        return drop(table(ids) * math.sqrt(width) + positions)

    def run(steps):
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            states = model(embed(source), embed(target), tgt_mask=causal, tgt_is_causal=True)
            logits = states @ table.weight.T
            criterion(logits.reshape(-1, VOCABULARY), labels.reshape(-1)).backward()
            optimizer.step()

    return run


def make(name, shape):
    """Make a contender that trains when told to, for `contenders.contend`."""
    run = CONTENDERS[name](shape)
    _reset_peak()
    run(3)

    def answer(asked):
        begin = time.perf_counter()
        run(asked["steps"])
        return {"seconds": time.perf_counter() - begin, "peak": _peak()}

    return {}, answer


def _reset_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


CONTENDERS = {
    OURS: with_keras_transformer,
    "keras-hub": with_keras_hub,
    "torch": with_torch,
}


def sgemm_rate(size=2048):
    """Return what the machine's matrix product reaches now, in operations a second.

    It is TensorFlow's, which reaches twice what NumPy's does on some processors.
    """
    from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)

    import tensorflow as tf  # isort: skip

    a = tf.ones((size, size))
    tf.matmul(a, a).numpy()
    begin = time.perf_counter()
    for _ in range(5):
        product = tf.matmul(a, a)
    product.numpy()
    return 5 * 2 * size**3 / (time.perf_counter() - begin)


def rows(shown, shapes=tuple(SHAPES), starts=3, rounds=5):
    """Compare the contenders at every shape.

    Processes of the same program differ by up to a tenth for all of their life, so that each
    contender is to be started more than once.

    Args:
        shown: A `Progress`.
        shapes: Some of `SHAPES`.
        starts: Processes of each contender, one after the other.
        rounds: Turns of each process.

    Returns:
        A list of `results.Row`.
    """
    found = []
    with shown.subject("train", len(shapes) * starts * (1 + rounds)) as step:
        for shape in shapes:
            machine = []
            answers = {name: [] for name in CONTENDERS}
            missing = {}
            for start in range(starts):
                step(f"{shape}, start {start + 1} of {starts}: making models and warming up")
                _take_turns(shape, rounds, step, machine, answers, missing)
            found += _rows(shape, rounds, machine, answers, missing)
    return found


def _take_turns(shape, rounds, step, machine, answers, missing):
    """Start all contenders and let them take turns."""
    children = [Contender(name, __file__, "--contend", name, shape) for name in CONTENDERS]
    for child in children:
        child.wait()
    for turn in range(rounds):
        step(f"{shape}: turn {turn + 1} of {rounds}")
        machine.append(sgemm_rate())
        for child in in_turn(children, turn):
            answer = child.ask(steps=SHAPES[shape][-1])
            if "missing" in answer:
                missing[child.name] = answer["missing"]
            answers[child.name].append(answer)
    for child in children:
        child.close()


def _rows(shape, rounds, machine, answers, missing):
    *_, batch, length, steps = SHAPES[shape]
    tokens = batch * length
    rates = {
        name: missing.get(name) or [steps * tokens / answer["seconds"] for answer in given]
        for name, given in answers.items()
    }
    peaks = {  # a start's last answer has its peak
        name: missing.get(name) or [answer["peak"] for answer in given[rounds - 1 :: rounds]]
        for name, given in answers.items()
    }
    notes = {}
    if OURS not in missing:
        pairs = zip(rates[OURS], machine, strict=True)
        share = statistics.median(rate / tokens * work(shape) / limit for rate, limit in pairs)
        notes[OURS] = f"{share:.0%} of {statistics.median(machine) / 1e9:.0f} GFLOP/s"
    setting = f"{shape}, {batch} x {length} tokens"
    return [
        *beside("training step", setting, "tokens/s", [OURS], rates, notes=notes),
        *beside("training step", f"{setting}, memory", "MB", [OURS], peaks, less=True),
    ]


def main():
    """Run all contenders and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", dest="shapes", choices=SHAPES, nargs="*", default=list(SHAPES))
    parser.add_argument("--starts", type=int, default=3, help="processes of each, one by one")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each process")
    progress.run_alone("train", rows, parser.parse_args())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contend"]:
        contend(lambda: make(*sys.argv[2:]))
    else:
        main()
