"""What a machine can read and multiply, and how near to it decoding comes."""

import contextlib
import statistics
import time

from contenders import THREADS, limit_tensorflow
from decode_models import LENGTH, SOURCE

BATCH_OF_SGEMM = 8  # from here on products are bound by arithmetic, below it by reading weights


def with_limit(folder, config):
    """Measure what the machine can read and multiply, as TensorFlow and PyTorch reach it."""
    limit_tensorflow()
    import tensorflow as tf

    large, square = (50_000, 2000), (2048, 2048)  # 400 MB: far more than caches hold
    reads, products = [], []
    array = tf.ones(large)
    vector, a = tf.ones((large[1], 1)), tf.ones(square)
    reads.append(lambda: tf.matmul(array, vector).numpy())
    products.append(lambda: tf.matmul(a, a)[0, 0].numpy())
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(THREADS)
        tensor, thin, b = torch.ones(large), torch.ones(large[1]), torch.ones(square)
        reads.append(lambda: torch.mv(tensor, thin))
        reads.append(lambda: tensor.sum())
        products.append(lambda: torch.mm(b, b))

    def best(functions):
        return min(_seconds(function) for function in functions for _ in range(3))

    def measure():
        return {
            "bandwidth": 4 * large[0] * large[1] / best(reads),
            "sgemm": 2 * square[0] ** 3 / best(products),
        }

    return measure


def _seconds(function):
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def weights_read(config):
    """Count the decoder's weights that a step reads: all but cross-attention's keys and values."""
    width, d_ff = config["d_model"], config["d_ff"]
    layer = 6 * width * width + 2 * width * d_ff
    return config["num_layers"] * layer + width * config["vocabulary_size"]


def work(config):
    """Count the floating-point operations of a token's matrix products in the decoder."""
    from keras_transformer.models import TransformerConfig, flops

    fields = {name: value for name, value in config.items() if name != "length"}
    model = TransformerConfig.from_dict(fields)
    steps = (flops.decoding_step(model, SOURCE + 1, keys) for keys in range(1, LENGTH + 1))
    return sum(step.flops for step in steps) / LENGTH


def share_of_limit(config, rate, batch, beam, limit):
    """Return which part of the machine's limit tokens/s are."""
    if batch < BATCH_OF_SGEMM:
        return 4 * weights_read(config) * rate / batch / limit["bandwidth"]
    return work(config) * beam * rate / limit["sgemm"]


def note(config, rates, batch, beam, limits):
    """Say how near tokens/s come to the machine's limit, measured in the same turns."""
    shares = [
        share_of_limit(config, rate, batch, beam, limit)
        for rate, limit in zip(rates, limits, strict=True)
    ]
    kind = "bandwidth" if batch < BATCH_OF_SGEMM else "sgemm"
    unit = "GB/s read" if kind == "bandwidth" else "GFLOP/s"
    there = statistics.median(limit[kind] for limit in limits) / 1e9
    return f"{statistics.median(shares):.0%} of {there:.0f} {unit}"
