"""Does warm-up steady the start of training?

A post-norm Transformer of six and six layers, as deep as the paper's but narrow, learns to reverse
sequences: with the same learning rate from the first step on, and with a linear rise to it.

    python experiments/warmup.py --seeds 3
"""

from claims import check_claims, of_warmup
from common import options, plt, print_table, reversal, save, show, tiny_model

from keras_transformer.training import Constant, CrossEntropy, paper_adam

PEAK = 2e-3
WARMUPS = (1, 100)  # steps; 1 is none
BATCH, STEPS, EVERY = 64, 250, 10


def losses(seed, warmup_steps):
    """Train once, and return the mean loss of every few steps."""
    model = tiny_model(seed, num_layers=6)
    model.compile(paper_adam(Constant(PEAK, warmup_steps)), loss=CrossEntropy(), jit_compile=False)
    found = []
    for i in range(STEPS // EVERY):  # every example is new
        inputs, labels = reversal([seed, i], BATCH * EVERY)
        found += model.fit(inputs, labels, batch_size=BATCH, verbose=0).history["loss"]
    return found


def main():
    """Print the loss with and without warm-up, and draw it."""
    asked = options(__doc__, "warmup.png")
    figure, axes = plt.subplots(figsize=(6, 3.5))
    rows, lasts = [], {}
    for color, warmup in zip(("C3", "C0"), WARMUPS, strict=True):
        name = f"{warmup} steps" if warmup > 1 else "none"
        curves = [losses(seed, warmup) for seed in range(1, asked.seeds + 1)]
        steps = [EVERY * (i + 1) for i in range(STEPS // EVERY)]
        for i, curve in enumerate(curves):
            axes.plot(steps, curve, color=color, label=None if i else f"warm-up: {name}")
        last = lasts[name] = [curve[-1] for curve in curves]
        rows.append([name, show(last), ", ".join(f"{value:.3f}" for value in last)])
    print_table(["warm-up", f"loss at step {STEPS}", "each seed"], rows)
    axes.set(xlabel="step", ylabel="training loss", title=f"Post-norm, 6 + 6 layers, rate {PEAK}")
    axes.legend()
    save(figure, asked.figure)
    check_claims(of_warmup(lasts))


if __name__ == "__main__":
    main()
