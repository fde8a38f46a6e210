"""What do the learning-rate schedules look like?

python experiments/schedules.py
"""

import numpy as np
from common import options, plt, print_table, save

from keras_transformer.training import (
    Constant,
    InverseSquareRoot,
    LinearDecay,
    OneCycle,
    WarmupCosine,
)

STEPS, WARMUP = 1000, 200
SCHEDULES = (
    InverseSquareRoot(1.0, WARMUP),
    Constant(1.0, WARMUP),
    LinearDecay(1.0, WARMUP, STEPS),
    WarmupCosine(1.0, WARMUP, STEPS),
    OneCycle(1.0, STEPS),
)


def main():
    """Print a few rates of each schedule, and draw them all."""
    asked = options(__doc__, "schedules.png")
    figure, axes = plt.subplots(figsize=(7, 3.5))
    steps = np.arange(1, STEPS + 1)
    rows = []
    for schedule in SCHEDULES:
        name, rates = type(schedule).__name__, np.asarray(schedule(steps))
        axes.plot(steps, rates, label=name)
        rows.append([name, *(f"{rates[step - 1]:.4f}" for step in (1, WARMUP, 600, STEPS))])
    print_table(["schedule, peak 1", "step 1", f"step {WARMUP}", "step 600", "step 1,000"], rows)
    axes.set(xlabel="step", ylabel="share of the peak")
    axes.legend()
    save(figure, asked.figure)


if __name__ == "__main__":
    main()
