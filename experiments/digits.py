"""Train a small Vision Transformer on the handwritten digits of scikit-learn.

Four fifths of the 1,797 pictures of 8 x 8 pixels are trained on, and the last fifth of a shuffled
order is held out. Pictures are written as PNG files, one folder a digit, and go the way of any
pictures: `train --task image-classification`, then the run is asked for the held-out ones.

    python experiments/digits.py
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from sklearn.datasets import load_digits

from keras_transformer.pipelines.images import read_pictures
from keras_transformer.training.new_run import new_run
from keras_transformer.training.trainer import train

SEED = 1
MODEL = {
    "image_size": 8,
    "channels": 1,
    "patch_size": 2,
    "num_layers": 4,
    "dropout": 0.1,
    "attention_dropout": 0.1,
}
TRAINING = {
    "batch_tokens": 64 * 17,
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "optimizer": "adamw",
    "weight_decay": 0.05,
    "label_smoothing": 0.1,
    "validate_every": 500,
    "seed": SEED,
}


def write_pictures(folder: Path) -> None:
    """Write the digits as PNG files: `train` and `held-out`, one folder a digit in each."""
    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.images))
    for place, i in enumerate(order):
        part = "train" if place < 4 * len(order) // 5 else "held-out"
        path = folder / part / str(digits.target[i]) / f"{i:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[i] * 255 / 16).round().astype("uint8")).save(path)


def main():
    """Train and measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--output", type=Path, default=Path("runs/digits"))
    parser.add_argument("--steps", type=int, default=2500)
    given = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    pictures = given.output / "pictures"
    write_pictures(pictures)
    run = new_run(
        given.output / "run",
        pictures / "train",
        pictures / "held-out",
        task="image-classification",
        preset="vit-tiny",
        steps=given.steps,
        overwrite=True,
        model=MODEL,
        training=TRAINING,
        console=console,
    )
    train(run, console)
    paths = sorted((pictures / "held-out").glob("*/*.png"))
    outputs = run.servable().call("pixels", pixels=read_pictures(paths, 8, 1))
    labels = [label.decode() for label in outputs["label"]]
    right = [path.parent.name == label for path, label in zip(paths, labels, strict=True)]
    console.print(f"{np.mean(right):.2%} of {len(paths)} held-out digits are read right")


if __name__ == "__main__":
    main()
