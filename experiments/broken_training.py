"""Would a broken training step be seen? The quality check of the tests, with one thing broken.

tests/training/test_quality.py learns a grammar and asks for a BLEU. Here it runs with training as
it is and several seeds, and then with one mistake at a time, of the kind that raises no error.

    python experiments/broken_training.py --seeds 3
"""

import dataclasses
import sys
import tempfile
import unittest.mock
from pathlib import Path

from common import options, plt, print_table, save, show
from keras import ops

import keras_transformer.layers.attention as attention
import keras_transformer.layers.positions as positions
import keras_transformer.models.train_step as train_step
import keras_transformer.models.transformer as transformer
import keras_transformer.training.trainer as trainer
from keras_transformer.training import CrossEntropy

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "training")]
from test_quality import LEAST_BLEU, learn


def changed_inputs(change):
    """Compile models so that they train on other inputs."""
    compile_model = trainer.compile_model

    def compile_and_change(model, config, loss):
        compile_model(model, config, loss)
        model.prepare_inputs = lambda _, inputs: change(dict(inputs))

    return trainer, "compile_model", compile_and_change


def changed_gradients(change):
    """Change the gradients of a step, given the variables."""
    gradients = train_step.Model._gradients

    def changed(model, *rest):
        names = [v.path for v in model.trainable_variables]
        return [change(n, g) for n, g in zip(names, gradients(model, *rest), strict=True)]

    return train_step.Model, "_gradients", changed


def changed_rate(factor):
    """Multiply the learning rate that a configuration asks for."""
    make = trainer.make_optimizer

    def changed(config):
        return make(dataclasses.replace(config, learning_rate=factor * config.learning_rate))

    return trainer, "make_optimizer", changed


def without(part):
    """Set the gradients to zero of all weights whose path has a part."""
    return changed_gradients(lambda name, g: g * 0 if part in name else g)


def shifted(inputs):
    """Show the decoder each token that it is to predict."""
    ids = inputs["target_ids"]
    return {**inputs, "target_ids": ops.concatenate([ids[:, 1:], ids[:, :1] * 0], axis=1)}


def other_source(inputs):
    """Pair each target with the source of the row before."""
    return {**inputs, "source_ids": ops.roll(inputs["source_ids"], 1, axis=0)}


BREAKS = {
    "the decoder's input is not shifted": changed_inputs(shifted),
    "no causal mask": (transformer, "causal_mask", lambda length: ops.ones((1, 1, 1), bool)),
    "each target has its neighbour's source": changed_inputs(other_source),
    "half of the sources are their neighbours'": changed_inputs(
        lambda inputs: {
            **inputs,
            "source_ids": ops.where(
                ops.expand_dims(ops.arange(ops.shape(inputs["source_ids"])[0]) % 2 == 0, 1),
                inputs["source_ids"],
                other_source(inputs)["source_ids"],
            ),
        }
    ),
    "no positions": (positions._AbsolutePositions, "call", lambda self, inputs, start=0: inputs),
    "no gradient to the embeddings": without("embedding"),
    "no gradient to the encoder": without("encoder"),
    "no gradient to cross-attention": without("cross_attention"),
    "no gradient to feed-forward networks": without("feed_forward"),
    "gradients with the wrong sign in the encoder": changed_gradients(
        lambda name, g: -g if "encoder" in name else g
    ),
    "learning rate ten times too high": changed_rate(10),
    "learning rate ten times too low": changed_rate(0.1),
    "padding counts in the loss": (
        trainer,
        "CrossEntropy",
        lambda smoothing: CrossEntropy(smoothing, ignore_id=-1),
    ),
    "label smoothing of 0.9": (trainer, "CrossEntropy", lambda smoothing: CrossEntropy(0.9)),
    "scores are not divided by the root of d_k": (
        attention,
        "scaled_dot_product_attention",
        lambda query, *rest, _attend=attention.scaled_dot_product_attention, **options: _attend(
            query * query.shape[-1] ** 0.5, *rest, **options
        ),
    ),
}


def bleu(seed, broken=()):
    """Learn once, and return BLEU by greedy and by beam search."""
    with tempfile.TemporaryDirectory() as folder:
        if not broken:
            return learn(Path(folder), seed)
        with unittest.mock.patch.object(*broken):
            return learn(Path(folder), seed)


def main():
    """Print and draw BLEU of the check as it is and with each mistake."""
    asked = options(__doc__, "broken_training.png")
    rows = []
    for name, broken in {"as it is": (), **BREAKS}.items():
        seeds = [1] if broken else range(1, asked.seeds + 1)
        found = [bleu(seed, broken) for seed in seeds]
        rows.append((name, *map(list, zip(*found, strict=True))))
        print(rows[-1], file=sys.stderr, flush=True)
    print_table(
        ["training", "greedy", "beam 4", f"below {LEAST_BLEU}"],
        [
            [
                name,
                *(show(x, ".1f") if len(x) > 1 else f"{x[0]:.1f}" for x in searches),
                "yes" if min(map(min, searches)) <= LEAST_BLEU else "no",
            ]
            for name, *searches in rows
        ],
    )
    draw(rows, asked.figure)


def draw(rows, path):
    """Draw a bar of BLEU by greedy search for each training."""
    figure, axes = plt.subplots(figsize=(7.5, 4))
    names = [name for name, *_ in rows]
    lowest = [min(greedy) for _, greedy, _ in rows]
    seen = ["tab:blue" if value > LEAST_BLEU else "tab:red" for value in lowest]
    axes.barh(names, lowest, color=seen)
    axes.axvline(LEAST_BLEU, color="grey", linewidth=0.8)
    axes.invert_yaxis()
    axes.set(xlabel=f"BLEU, greedy; the check asks for more than {LEAST_BLEU}", xlim=(0, 100))
    save(figure, path)


if __name__ == "__main__":
    main()
