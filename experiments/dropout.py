"""Does dropout, or a smaller model, narrow the gap between training and validation?

A model learns to reverse sequences from 1,000 examples of which every fifth target token is
replaced at random. The rule can be generalised; the noise can only be learned by heart.

    python experiments/dropout.py --seeds 3
"""

import math

import numpy as np
from claims import check_claims, of_dropout
from common import SYMBOLS, options, plt, print_table, reversal, save, show, tiny_model

from keras_transformer.training import CrossEntropy, InverseSquareRoot, paper_adam

ROWS, NOISE, BATCH = 1000, 0.2, 50
EPOCHS, EVERY = 36, 4
VARIANTS = {
    "no dropout": {},
    "dropout 0.1": {"dropout": 0.1, "embedding_dropout": 0.1},
    "smaller model": {"num_layers": 1, "d_model": 32, "d_ff": 32},
}


def losses(seed, fields):
    """Train once; return training and validation losses on the way, and the number of weights.

    Both are computed without dropout, so that they can be compared.
    """
    model = tiny_model(seed, norm_first=True, **fields)
    model.compile(paper_adam(InverseSquareRoot(3e-3, 50)), loss=CrossEntropy(), jit_compile=False)
    train, valid = reversal(seed, ROWS, NOISE), reversal(seed + 1000, ROWS, NOISE)
    found = []
    for _ in range(EPOCHS // EVERY):
        model.fit(*train, batch_size=BATCH, epochs=EVERY, verbose=0)
        found.append([model.evaluate(*d, batch_size=500, verbose=0) for d in (train, valid)])
    return np.transpose(found), model.count_params()


def lowest():
    """Return the loss of knowing the rule and nothing of the noise; the end token has none."""
    wrong = NOISE / SYMBOLS
    right = 1 - wrong * (SYMBOLS - 1)
    entropy = -right * math.log(right) - (SYMBOLS - 1) * wrong * math.log(wrong)
    return entropy * 8 / 9


def main():
    """Print both losses and their gap, and draw them."""
    asked = options(__doc__, "dropout.png")
    figure, axes = plt.subplots(figsize=(7, 3.5))
    steps = np.arange(1, EPOCHS // EVERY + 1) * EVERY * ROWS // BATCH
    rows, gaps, validation = [], {}, {}
    for color, (name, fields) in zip(("C3", "C0", "C2"), VARIANTS.items(), strict=True):
        results = [losses(seed, fields) for seed in range(1, asked.seeds + 1)]
        curves = np.array([curve for curve, _ in results])  # (seeds, training or validation, steps)
        train, valid = curves[:, 0, -1], curves[:, 1, -1]
        gap = gaps[name] = valid - train
        validation[name] = valid
        each = ", ".join(f"{value:.2f}" for value in gap)
        rows.append([name, f"{results[0][1]:,}", show(train), show(valid), show(gap), each])
        axes.plot(steps, curves[:, 1].mean(axis=0), color=color, label=f"{name}, validation")
        axes.plot(steps, curves[:, 0].mean(axis=0), "--", color=color, label=f"{name}, training")
    header = ["model", "weights", "training loss", "validation loss", "gap", "gap of each seed"]
    print_table(header, rows)
    print(f"\nKnowing the rule and nothing of the noise has a loss of {lowest():.3f}.")
    axes.axhline(lowest(), color="grey", linewidth=0.8)
    axes.set(xlabel="step", ylabel="loss", title=f"{ROWS:,} examples, {NOISE:.0%} noise")
    axes.legend(fontsize="small")
    save(figure, asked.figure)
    check_claims(of_dropout(gaps, validation))


if __name__ == "__main__":
    main()
