"""Does label smoothing lower confidence, and is the model then better calibrated?

A model learns to reverse sequences from 1,000 examples, once with every fifth target token replaced
at random and once without noise. New examples of the same kind show how sure it is, and how often
it is right.

    python experiments/label_smoothing.py --seeds 3
"""

import numpy as np
from claims import check_claims, of_label_smoothing
from common import VOCABULARY, options, plt, print_table, reversal, save, show, tiny_model

from keras_transformer.training import CrossEntropy, InverseSquareRoot, paper_adam

ROWS, BATCH, EPOCHS = 1000, 50, 36
NOISES, SMOOTHINGS = (0.2, 0.0), (0.0, 0.1)
BINS = 10
FEWEST = 50  # tokens in a bin that is drawn; the mean of fewer says little


def predictions(seed, noise, smoothing):
    """Train once, and return log-probabilities `(tokens, V)` and labels of new examples."""
    model = tiny_model(seed, norm_first=True)
    model.compile(
        paper_adam(InverseSquareRoot(3e-3, 50)), loss=CrossEntropy(smoothing), jit_compile=False
    )
    model.fit(*reversal(seed, ROWS, noise), batch_size=BATCH, epochs=EPOCHS, verbose=0)
    inputs, labels = reversal(seed + 1000, ROWS, noise)
    logits = np.asarray(model(inputs, training=False), "float64")
    logits = logits[:, :-1].reshape(-1, VOCABULARY)  # the end token, which is certain, is left out
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)), labels[:, :-1].ravel()


def calibration(confidence, hit):
    """Return the expected calibration error, and mean confidence and accuracy of the bins."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    error, points = 0.0, []
    for i in range(BINS):
        inside = bins == i
        if inside.any():
            point = confidence[inside].mean(), hit[inside].mean()
            error += inside.mean() * abs(point[0] - point[1])
            if inside.sum() >= FEWEST:
                points.append(point)
    return error, np.array(points)


def main():
    """Print confidence, accuracy, calibration error and perplexity, and draw the bins."""
    asked = options(__doc__, "label_smoothing.png")
    figure, axes = plt.subplots(1, 2, figsize=(7.5, 3.5), sharex=True, sharey=True)
    rows, confidence_of, error_of = [], {}, {}
    for noise, panel in zip(NOISES, axes, strict=True):
        panel.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
        for smoothing in SMOOTHINGS:
            found, confidences, hits = [], [], []
            for seed in range(1, asked.seeds + 1):
                log_p, labels = predictions(seed, noise, smoothing)
                confidence, hit = np.exp(log_p.max(axis=-1)), log_p.argmax(axis=-1) == labels
                loss = -log_p[np.arange(len(labels)), labels].mean()
                error, _ = calibration(confidence, hit)
                found.append((confidence.mean(), hit.mean(), error, np.exp(loss)))
                confidences.append(confidence)
                hits.append(hit)
            name = f"{noise:.0%}, {smoothing}"
            confidence_of[name], _, error_of[name], _ = np.transpose(found)
            each = ", ".join(f"{values[2]:.3f}" for values in found)
            values = [show(column) for column in np.transpose(found)]
            rows.append([f"{noise:.0%}", f"{smoothing}", *values, each])
            _, points = calibration(np.concatenate(confidences), np.concatenate(hits))
            panel.plot(*points.T, marker="o", label=f"smoothing {smoothing}")
        panel.set(xlabel="confidence", title=f"{noise:.0%} noisy labels")
    axes[0].set(ylabel="accuracy")
    axes[0].legend()
    header = ["noise", "smoothing", "confidence", "accuracy", "calibration error", "perplexity"]
    print_table([*header, "calibration error of each seed"], rows)
    save(figure, asked.figure)
    check_claims(of_label_smoothing(confidence_of, error_of))


if __name__ == "__main__":
    main()
