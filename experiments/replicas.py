"""Is training on two devices training on one?

The preset `tiny` learns to translate on one device and on two, from the same seed: without dropout,
where the two should differ by rounding alone, and with the preset's, where each replica drops out
other units. The two devices are logical CPUs of one machine.

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
SHOWN = (50, 100, 150, 200)  # steps in the table


def main():
    """Train four times, print the losses, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("source", "target", "valid-source", "valid-target"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--vocab-size", type=int, default=8000)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/replicas.png"))
    asked = parser.parse_args()
    figure, axes = plt.subplots(
        2, 2, figsize=(8, 5), sharex=True, sharey="row", height_ratios=(2, 1)
    )
    rows, vocabulary = [], None
    with tempfile.TemporaryDirectory() as folder:
        for column, (title, dropout) in enumerate((("none", 0.0), ("0.1", 0.1))):
            curves = []
            for devices in (1, 2):
                path = Path(folder, f"{title}-{devices}")
                vocabulary = set_up(asked, path, vocabulary, dropout)
                with Path(f"{path}.log").open("w") as log:
                    command = [sys.executable, __file__, TRAIN, path, str(devices)]
                    if subprocess.run(command, stderr=log, check=False).returncode:
                        sys.exit(Path(log.name).read_text())
                curves.append(losses(path / "metrics.jsonl"))
            one, two = curves
            differences = {step: abs(one[step] - two[step]) for step in one}
            for name, curve in (("1 device", one), ("2 devices", two)):
                rows.append([title, name, *(f"{curve[step]:.6f}" for step in SHOWN), ""])
            between = [f"{differences[step]:.1e}" for step in SHOWN]
            rows.append([title, "difference", *between, f"{max(differences.values()):.1e}"])
            draw(axes[:, column], f"dropout: {title}", one, two, differences)
    steps = [f"step {step}" for step in SHOWN]
    print_table(["dropout", "", *steps, f"largest of {len(differences)} reports"], rows)
    axes[0, 0].set(ylabel="training loss")
    axes[1, 0].set(ylabel="difference", yscale="log")
    save(figure, asked.figure)


def set_up(asked, path, vocabulary, dropout):
    """Make a run, and return the file of its vocabulary for the next one."""
    from keras_transformer.training.new_run import new_run
    from keras_transformer.training.text_files import ParallelFiles

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
            "validate_every": steps,
            "checkpoint_every": steps,
            "warmup_steps": steps // 4,
        },
    )
    return run.vocabulary_path


TRAIN = "--train-a-run"


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


def draw(axes, title, one, two, differences):
    """Draw two curves, and their difference below."""
    axes[0].plot(one.keys(), one.values(), color="C0", linewidth=3, label="1 device")
    axes[0].plot(two.keys(), two.values(), color="C1", linestyle="--", label="2 devices")
    axes[0].set(title=title)
    axes[0].legend()
    axes[1].plot(differences.keys(), differences.values(), color="C3")
    axes[1].set(xlabel="step")


if __name__ == "__main__":
    if sys.argv[1:2] == [TRAIN]:
        train(sys.argv[2], int(sys.argv[3]))
    else:
        main()
