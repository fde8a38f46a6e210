"""How soon does a model learn with teacher forcing, and without it?

The same model, data and seeds, with four kinds of decoder input in training: the truth, a mixture
of truth and predictions whose share of truth falls to a half, predictions that follow from the
truth, and predictions that follow from predictions. Two tasks: reversing, where the source alone
says what comes next, and counting up from a symbol, where the token before says it.

    python experiments/teacher_forcing.py --seeds 3
"""

import numpy as np
from claims import check_claims, of_teacher_forcing
from common import FIRST, LENGTH, SYMBOLS, options, plt, print_table, reversal, save, tf, tiny_model

from keras_transformer.decoding import generate
from keras_transformer.training import (
    CrossEntropy,
    InverseSquareRoot,
    ScheduledSampling,
    paper_adam,
)

BATCH, STEPS, EVERY = 64, 300, 20
ENOUGH = 0.9
KINDS = {
    "teacher forcing": None,
    "share falls to 0.5": {"share": 0.5, "steps": STEPS},
    "share 0, 1 pass": {"share": 0.0},
    f"share 0, {LENGTH} passes": {"share": 0.0, "passes": LENGTH},
}


def counting(seed, rows):
    """Make sequences whose targets count up from the first symbol of the source."""
    inputs, labels = reversal(seed, rows)
    first = inputs["source_ids"][:, :1] - FIRST
    labels[:, :LENGTH] = FIRST + (first + np.arange(LENGTH)) % SYMBOLS
    inputs["target_ids"][:, 1:] = labels[:, :LENGTH]
    return inputs, labels


TASKS = {"reversing": reversal, "counting": counting}


def accuracies(task, seed, sampling):
    """Train once; return the share of right tokens in what the model writes, on the way."""
    model = tiny_model(seed)
    model.compile(
        paper_adam(InverseSquareRoot(3e-3, 50)),
        loss=CrossEntropy(),
        prepare_inputs=ScheduledSampling(**sampling) if sampling else None,
    )
    inputs, labels = task(seed + 1000, 200)
    write = tf.function(lambda sources: generate(model, sources)[0])
    found = []
    for i in range(STEPS // EVERY):  # every example is new
        model.fit(*task([seed, i], BATCH * EVERY), batch_size=BATCH, verbose=0)
        found.append(np.mean(write(inputs["source_ids"])[:, : LENGTH + 1] == labels))
    return found


def steps_to(accuracy, curve):
    """Return the first step at which a curve is high enough, or None."""
    return next((EVERY * (i + 1) for i, x in enumerate(curve) if x >= accuracy), None)


def main():
    """Print the steps that each kind takes, and draw the accuracies."""
    asked = options(__doc__, "teacher_forcing.png")
    figure, axes = plt.subplots(1, len(TASKS), figsize=(8, 3.5), sharey=True)
    steps = [EVERY * (i + 1) for i in range(STEPS // EVERY)]
    rows = []
    steps_of: dict[str, dict] = {task: {} for task in TASKS}
    for axis, (title, task) in zip(axes, TASKS.items(), strict=True):
        for i, (name, sampling) in enumerate(KINDS.items()):
            curves = [accuracies(task, seed, sampling) for seed in range(1, asked.seeds + 1)]
            reached = [steps_to(ENOUGH, curve) for curve in curves]
            steps_of[title][name] = [np.inf if step is None else step for step in reached]
            rows.append(
                [
                    title,
                    name,
                    ", ".join(str(step or f"not in {STEPS}") for step in reached),
                    ", ".join(f"{curve[-1]:.3f}" for curve in curves),
                ]
            )
            for j, curve in enumerate(curves):
                axis.plot(steps, curve, color=f"C{i}", label=None if j else name)
        axis.axhline(ENOUGH, color="grey", linewidth=0.8)
        axis.set(xlabel="step", title=title)
    axes[0].set(ylabel="right tokens")
    axes[0].legend(fontsize="small")
    header = ["task", "input", f"steps to {ENOUGH:.0%}", f"right at step {STEPS}"]
    print_table(header, rows)
    save(figure, asked.figure)
    check_claims(of_teacher_forcing(steps_of, EVERY))


if __name__ == "__main__":
    main()
