"""How do time and memory grow with length, batch, width, depth and vocabulary?

    python experiments/scaling.py [--quick]

One of the five is varied at a time, for a training step and for greedy decoding with caches. Every
point is a process of its own; its memory is its peak less that of a process whose model is as deep
but 8 wide, so that TensorFlow's code and graphs do not count. Then the points of a variable take
turns, a fifth of a second each, so that what disturbs the machine disturbs all of them; times are
medians. Linux only.
"""

import argparse
import dataclasses
import functools
import itertools
import multiprocessing
import statistics
import time
from pathlib import Path

import common
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from matplotlib import ticker
from memory import memory
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import keras_transformer as kt
from keras_transformer.models import flops
from keras_transformer.training.memory import count_parameters, estimate_memory


@dataclasses.dataclass(frozen=True)
class Point:
    """What is varied. Source and target have the same length."""

    length: int = 64
    batch: int = 16
    width: int = 256
    depth: int = 2
    vocabulary: int = 4000

    @property
    def config(self):
        """The model: four heads, and a feed-forward network four times as wide as the model."""
        return kt.models.TransformerConfig(
            self.vocabulary,
            num_layers=self.depth,
            num_heads=4,
            d_model=self.width,
            d_ff=4 * self.width,
            max_length=self.length,
        )


VALUES = {
    "length": (16, 32, 64, 128, 256),
    "batch": (4, 8, 16, 32, 64),
    "width": (32, 64, 128, 256, 512),
    "depth": (1, 2, 3, 5, 8),
    "vocabulary": (1000, 2000, 4000, 8000, 16000),
}
MODULES = ["keras_transformer.training", "keras_transformer.decoding", "matplotlib.pyplot"]
NOISE = 1e6  # bytes; a smaller difference of two peaks says nothing
CALLS = 3  # before any is timed; of them is the peak
ROUNDS, TURN = 7, 0.2  # turns of each point, and the seconds that one takes at least


# What is measured, and what the formulas say of it


def training(point):
    """Return a function that trains a step."""
    model = kt.models.Transformer(point.config)
    model.compile(kt.training.paper_adam(1e-4), kt.training.CrossEntropy(0.1), jit_compile=False)
    ids = random_ids(point)
    return lambda: model.train_on_batch({"source_ids": ids, "target_ids": ids}, ids)


def training_flops(point):
    """Count the operations of a training step."""
    return point.batch * flops.training_step(point.config, point.length, point.length).flops


def training_memory(point):
    """Estimate the memory of a training step."""
    return estimate_memory(point.config, point.batch, point.length).total


def decoding(point):
    """Return a function that decodes to exactly as many tokens as the source has."""
    model = kt.models.Transformer(point.config)
    ids = random_ids(point)
    options = kt.decoding.GenerationOptions(min_length=point.length, max_length=point.length)
    generate = tf.function(lambda: kt.decoding.generate(model, ids, options)[0])
    return lambda: generate().numpy()


def decoding_flops(point):
    """Count the operations of decoding, the encoder included."""
    return point.batch * flops.decoding(point.config, point.length, point.length).flops


def decoding_memory(point):
    """Add up the weights, and the keys and values of source and target in every decoder block."""
    caches = 2 * point.depth * point.batch * (point.length + point.length) * point.width
    return 4 * (count_parameters(point.config) + caches)


def random_ids(point):
    """Make a batch without padding."""
    ids = np.random.default_rng(0).integers(4, point.vocabulary, (point.batch, point.length))
    return tf.constant(ids, tf.int32)


MODES = {
    "training": (training, training_flops, training_memory),
    "decoding": (decoding, decoding_flops, decoding_memory),
}


# A point in a process of its own, told by its parent what to do


def be_point(channel, mode, point):
    """Send the peak of this process, and then the seconds of a call whenever asked."""
    call = MODES[mode][0](point)
    for _ in range(CALLS):
        call()
    channel.send(memory("VmHWM"))
    while channel.recv():
        channel.send(seconds_a_call(call))


def seconds_a_call(function):
    """Call a function for some time, and return the mean seconds of a call."""
    begin = time.perf_counter()
    for calls in itertools.count(1):
        function()
        if (seconds := time.perf_counter() - begin) >= TURN:
            return seconds / calls


class Process:
    """The process of a point.

    Args:
        mode: "training" or "decoding".
        point: The `Point`.
    """

    def __init__(self, mode, point):
        context = multiprocessing.get_context("forkserver")  # loads TensorFlow once, not every time
        context.set_forkserver_preload(MODULES)
        self.channel, other = context.Pipe()
        self.process = context.Process(target=be_point, args=(other, mode, point), daemon=True)
        self.process.start()
        other.close()  # so that the end of the process is seen

    def peak(self):
        """Wait for the peak, in bytes. Ask for it once, and before any time."""
        return self.channel.recv()

    def seconds(self):
        """Let the process take its turn; return its seconds a call."""
        time.sleep(0.02)  # threads of the one before may still be spinning
        self.channel.send(True)
        return self.channel.recv()

    def end(self):
        """End the process."""
        self.channel.send(False)
        self.process.join()


@functools.cache
def smallest_peak(mode, depth):
    """Return the peak of a process whose model is so deep, and next to nothing otherwise."""
    process = Process(mode, Point(length=8, batch=2, width=8, depth=depth, vocabulary=10))
    peak = process.peak()
    process.end()
    return peak


# All points of a variable


@dataclasses.dataclass(frozen=True)
class Curve:
    """What was found with one variable, an array each: values, seconds, bytes and the formulas'."""

    name: str
    values: np.ndarray
    seconds: np.ndarray
    flops: np.ndarray
    memory: np.ndarray
    memory_by_formula: np.ndarray

    def fit(self):
        """Fit seconds = a + flops / r, neither negative, by least squares of relative errors.

        Returns:
            Tuple of a, r and the fitted seconds.
        """
        columns = np.stack([np.ones(len(self.flops)), self.flops], axis=1) / self.seconds[:, None]
        found = []
        for used in ([0, 1], [0], [1]):
            x = np.zeros(2)
            x[used] = np.linalg.lstsq(columns[:, used], np.ones(len(columns)), rcond=None)[0]
            if np.all(x >= 0):
                found.append(x)
        a, slope = min(found, key=lambda x: np.linalg.norm(columns @ x - 1))
        return a, 1 / slope if slope else np.inf, a + slope * self.flops

    def exponent(self, y):
        """Return the exponent of y as a power of the variable, between the first and last point."""
        return np.log(y[-1] / y[0]) / np.log(self.values[-1] / self.values[0])


def measure(mode, name, points, rounds, tick):
    """Measure the points of one variable.

    Args:
        mode: "training" or "decoding".
        name: The variable.
        points: Its points, in order.
        rounds: How often each of them is timed.
        tick: Function that is told of every measurement.
    """
    processes = [Process(mode, point) for point in points]
    peaks = [tick(process.peak()) for process in processes]
    times = [[tick(process.seconds()) for process in processes] for _ in range(rounds)]
    for process in processes:
        process.end()
    smallest = [smallest_peak(mode, point.depth) for point in points]
    _, count, estimate = MODES[mode]
    return Curve(
        name,
        np.array([getattr(point, name) for point in points]),
        np.array([statistics.median(column) for column in zip(*times, strict=True)]),
        np.array([count(point) for point in points], float),
        np.maximum(np.array(peaks, float) - smallest, NOISE),
        np.array([estimate(point) for point in points], float),
    )


# What is shown


def report(mode, curves, path):
    """Print both tables of a mode in Markdown, and draw its figure."""
    print(f"\n### {mode.capitalize()}\n")
    print(f"![Time and memory of {mode} against five variables](figures/{path.name})\n")
    heads = ["varied", "time ~", "FLOP ~", "a", "r", "off by", "memory ~", "formula ~"]
    common.print_table(heads, map(summary, curves))
    print()
    heads = ["", "GFLOP", "measured", "a + FLOP / r", "memory", "formula"]
    common.print_table(heads, itertools.chain.from_iterable(map(lines, curves)))
    draw(curves, path)


def summary(curve):
    """Compare growth and fit: the exponents of measurement and formula side by side."""
    a, rate, fitted = curve.fit()
    return [
        f"{curve.name}, {curve.values[0]:,} to {curve.values[-1]:,}",
        f"{curve.exponent(curve.seconds):.2f}",
        f"{curve.exponent(curve.flops):.2f}",
        f"{1e3 * a:.1f} ms",
        f"{rate / 1e9:.0f} GFLOP/s",
        f"{np.max(np.abs(fitted / curve.seconds - 1)):.0%}",
        f"{curve.exponent(curve.memory):.2f}",
        f"{curve.exponent(curve.memory_by_formula):.2f}",
    ]


def lines(curve):
    """Make a line for every point of a curve."""
    columns = (
        curve.values,
        curve.flops / 1e9,
        1e3 * curve.seconds,
        1e3 * curve.fit()[2],
        curve.memory / 1e6,
        curve.memory_by_formula / 1e6,
    )
    for value, work, seconds, fitted, peak, estimate in zip(*columns, strict=True):
        yield [
            f"{curve.name} {value:,}",
            f"{work:.2f}",
            f"{seconds:.1f} ms",
            f"{fitted:.1f} ms",
            f"{peak:.0f} MB",
            f"{estimate:.0f} MB",
        ]


def draw(curves, path):
    """Draw time and memory against every variable."""
    figure, grid = plt.subplots(2, len(curves), figsize=(14, 6), sharey="row")
    for curve, (above, below) in zip(curves, grid.T, strict=True):
        a, rate, fitted = curve.fit()
        above.plot(curve.values, 1e3 * curve.seconds, "o", label="measured")
        label = f"{1e3 * a:.1f} ms + FLOP /\n{rate / 1e9:.0f} GFLOP/s"
        above.plot(curve.values, 1e3 * fitted, label=label)
        below.plot(curve.values, curve.memory / 1e6, "o", label="measured")
        below.plot(curve.values, curve.memory_by_formula / 1e6, label="formula")
        for axes in (above, below):
            axes.set(xscale="log", yscale="log")
            axes.set_xticks(curve.values, [f"{value:,}" for value in curve.values])
            axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
            axes.grid(alpha=0.3)
            axes.legend(loc="upper left", fontsize=8)
        below.set_xlabel(curve.name)
    grid[0, 0].set_ylabel("milliseconds")
    grid[1, 0].set_ylabel("peak memory, MB")
    common.save(figure, path)


def main():
    """Measure both modes, print their tables and draw their figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two small points each, to try it")
    parser.add_argument("--folder", type=Path, help="for pictures; docs/figures, or runs if quick")
    arguments = parser.parse_args()
    values, base, rounds = VALUES, Point(), ROUNDS
    if arguments.quick:
        values = {name: some[:2] for name, some in VALUES.items()}
        base, rounds = Point(**{name: some[0] for name, some in values.items()}), 2
    folder = arguments.folder or Path("runs" if arguments.quick else "docs/figures")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        count = len(MODES) * (rounds + 1) * sum(map(len, values.values()))
        task = progress.add_task("", total=count)

        def tick(result):
            progress.advance(task)
            return result

        curves = {mode: [] for mode in MODES}
        for mode, name in itertools.product(MODES, values):
            progress.update(task, description=f"{mode}: {name}")
            points = [dataclasses.replace(base, **{name: value}) for value in values[name]]
            curves[mode].append(measure(mode, name, points, rounds, tick))
    around = ", ".join(f"{name} {value:,}" for name, value in dataclasses.asdict(base).items())
    print(f"Around {around}:")
    for mode, found in curves.items():
        report(mode, found, folder / f"scaling_{mode}.png")


if __name__ == "__main__":
    main()
