"""Examples of every task, which tiny models learn in seconds."""

import json
import random

import numpy as np
import pytest
from fixtures_run import quiet
from PIL import Image

GOOD = ["great", "good", "fine", "superb"]
BAD = ["bad", "awful", "poor", "dull"]
THINGS = ["film", "plot", "cast", "story"]
SIZES = {"train": 400, "valid": 60}
MODEL = {"num_layers": 1, "num_heads": 2, "d_model": 32, "d_ff": 64, "max_length": 32}
TRAINING = {
    "batch_tokens": 512,
    "learning_rate": 0.01,
    "warmup_steps": 5,
    "max_length": 32,
    # At the end alone: it takes longer than the few steps of a test.
    "validate_every": 1000,
    "checkpoint_every": 1000,
}


def sentence(rng):
    """Return a sentence, its label, and the labels of its words."""
    first, second = rng.sample(THINGS, 2)
    label = rng.choice(["good", "bad"])
    word = rng.choice(GOOD if label == "good" else BAD)
    text = f"the {first} was {word} with the {second}"
    kinds = ["O", "THING", "O", "WORTH", "O", "O", "THING"]
    return text, label, kinds


def write_examples(folder):
    """Write the examples of every task into a folder, in all formats."""
    for part, count in SIZES.items():
        rng = random.Random(part)
        rows = [sentence(rng) for _ in range(count)]
        lines = {
            "labels.tsv": [f"{text}\t{label}" for text, label, _ in rows],
            "words.jsonl": [
                json.dumps({"words": text.split(), "labels": kinds}) for text, _, kinds in rows
            ],
            "lines.txt": [text for text, _, _ in rows],
            "answers.tsv": [
                f"what was {text.split()[3]}\t{text}\t{text.split()[1]}" for text, _, _ in rows
            ],
            "summaries.jsonl": [
                json.dumps({"document": text, "summary": f"{text.split()[1]} {text.split()[3]}"})
                for text, _, _ in rows
            ],
        }
        for name, texts in lines.items():
            path = folder / f"{part}-{name}"
            path.write_text("".join(f"{text}\n" for text in texts), "utf-8")
        write_pictures(folder / f"{part}-pictures", count // 4)
    return folder


def write_pictures(folder, count):
    """Write pictures that are bright above or below, one folder each."""
    rng = np.random.default_rng(len(str(folder)))
    for label in ("above", "below"):
        (folder / label).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 90, (8, 8), dtype=np.uint8)
            half = slice(0, 4) if label == "above" else slice(4, 8)
            pixels[half] += 130
            Image.fromarray(pixels).save(folder / label / f"{i}.png")


@pytest.fixture(scope="session")
def examples(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("examples"))


def make_task_run(path, examples, task, name, *, model=None, training=None, **options):
    """Set up a run of a task, of a model that is small enough for a test."""
    from keras_transformer.training.new_run import new_run

    options = {"steps": 40, "vocabulary_size": 120, **options}
    return new_run(
        path,
        examples / f"train-{name}",
        examples / f"valid-{name}",
        task=task,
        model=model if "init_from" in options else {**MODEL, **(model or {})},
        training={**TRAINING, **(training or {})},
        console=quiet(),
        **options,
    )
