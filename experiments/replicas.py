"""Is training on two devices training on one?

The preset `tiny` learns to translate on one device and on two, from the same seed: without dropout,
where the two should differ by rounding alone, and with the preset's, where each replica drops out
other units. The two devices are logical CPUs of one machine.

How far rounding alone leads apart is shown by one device that cuts its batches into micro-batches:
two, which are what the two replicas get, and three, which add up in another order.

    python experiments/replicas.py --source train.en --target train.de \
        --valid-source val.en --valid-target val.de
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import plt, print_table, save

EVERY = 10  # steps between two reports
SHOWN = (10, 50, 100, 200)  # steps in the table
ONE, TWO, LIKE_TWO = "1 device", "2 devices", "1 device, 2 micro-batches"
# Dropout: name: devices and micro-batches.
VARIANTS = {
    0.0: {
        ONE: (1, 1),
        TWO: (2, 1),
        LIKE_TWO: (1, 2),
        "1 device, 3 micro-batches": (1, 3),
    },
    0.1: {ONE: (1, 1), TWO: (2, 1)},
}
TRAIN = "--train-a-run"  # what tells a child process from the first one


def main():
    """Train all variants, print the losses, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("source", "target", "valid-source", "valid-target"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--vocab-size", type=int, default=8000)
    parser.add_argument("--batch-tokens", type=int, default=1024)
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/replicas.png"))
    asked = parser.parse_args()
    curves, vocabulary = {}, None
    with tempfile.TemporaryDirectory() as folder:
        for dropout, variants in VARIANTS.items():
            for name, (devices, accumulate) in variants.items():
                path = Path(folder, f"run-{len(curves)}")
                vocabulary = set_up(asked, path, vocabulary, dropout, accumulate)
                with Path(f"{path}.log").open("w") as log:
                    command = [sys.executable, __file__, TRAIN, path, str(devices)]
                    if subprocess.run(command, stderr=log, check=False).returncode:
                        sys.exit(Path(log.name).read_text())
                curves[dropout, name] = losses(path / "metrics.jsonl")
    tell(curves)
    save(draw(curves), asked.figure)


def set_up(asked, path, vocabulary, dropout, accumulate):
    """Make a run, and return the file of its vocabulary for the next one."""
    from keras_transformer.training.data.corpora import ParallelFiles
    from keras_transformer.training.new_run import new_run

    steps = SHOWN[-1]
    run = new_run(
        path,
        ParallelFiles(asked.source, asked.target),
        ParallelFiles(asked.valid_source, asked.valid_target),
        preset="tiny",
        steps=steps,
        vocabulary=vocabulary,
        vocabulary_size=asked.vocab_size,
        model={"dropout": dropout, "embedding_dropout": dropout},
        training={
            "batch_tokens": asked.batch_tokens,
            "accumulate": accumulate,
            "validate_every": steps,
            "checkpoint_every": steps,
            "warmup_steps": steps // 4,
        },
    )
    return run.vocabulary_path


def train(path, devices):
    """Train a run in this process, which has not touched its devices yet."""
    import tensorflow as tf

    from keras_transformer.training import RunDirectory, make_strategy, trainer

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * devices
    )
    trainer.REPORT_EVERY = EVERY
    strategy = make_strategy("mirrored" if devices > 1 else "single")
    assert strategy.num_replicas_in_sync == devices
    trainer.train(RunDirectory.open(path), strategy=strategy)


def losses(path):
    """Return the training loss by step, each the mean since the last report."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}


def tell(curves):
    """Print a few losses of every variant, and how far it is from one device."""
    rows = []
    for (dropout, name), curve in curves.items():
        shown = [f"{curve[step]:.4f}" for step in SHOWN]
        far = max(distances(curve, curves[dropout, ONE]))
        rows.append([str(dropout), name, *shown, f"{far:.1e}" if name != ONE else ""])
    steps = [f"step {step}" for step in SHOWN]
    print_table(["dropout", "", *steps, "largest distance from 1 device"], rows)
    far = max(distances(curves[0.0, LIKE_TWO], curves[0.0, TWO]))
    print(f"\n2 devices and {LIKE_TWO} are at most {far:.1e} apart.")


def draw(curves):
    """Draw all curves, and their distance from that of one device below."""
    figure, axes = plt.subplots(
        2, 2, figsize=(8, 5.5), sharex=True, sharey="row", height_ratios=(2, 1)
    )
    for column, (dropout, variants) in enumerate(VARIANTS.items()):
        for i, name in enumerate(variants):
            curve = curves[dropout, name]
            style = {"color": f"C{i}", "linewidth": 4 - i, "linestyle": "--" if i else "-"}
            axes[0, column].plot(curve.keys(), curve.values(), label=name, **style)
            if name != ONE:
                far = distances(curve, curves[dropout, ONE])
                axes[1, column].plot(curve.keys(), far, **style)
        axes[0, column].set(title=f"dropout {dropout}")
        axes[0, column].legend(fontsize="small")
        axes[1, column].set(xlabel="step", yscale="log")
    axes[0, 0].set(ylabel="training loss")
    axes[1, 0].set(ylabel="distance from 1 device")
    return figure


def distances(one, two):
    """Return the distance of two curves at every step."""
    return [abs(one[step] - two[step]) for step in one]


if __name__ == "__main__":
    if sys.argv[1:2] == [TRAIN]:
        train(sys.argv[2], int(sys.argv[3]))
    else:
        main()
