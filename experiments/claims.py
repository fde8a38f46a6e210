"""What experiments have to show: each claim is a bound on what was measured, and can fail.

The bounds lie between what was seen with 3 seeds, in docs/experiments.md, and what would speak
against the claim; beside each stands what was seen: the seeds that are nearest to each other, or
mean and standard deviation. Nothing here needs more than
Python, so that the tests can show that each claim fails on other numbers.
"""

import sys
from collections.abc import Mapping, Sequence

Values = Mapping[str, Sequence[float]]  # by variant, one of each seed


def check_claims(claims: Mapping[str, bool]) -> None:
    """Say of each claim whether it held, and end with status 1 if one did not."""
    print()
    for claim, held in claims.items():
        print(f"{'holds' if held else 'DOES NOT HOLD'}: {claim}")
    if not all(claims.values()):
        sys.exit(1)


def of_warmup(losses: Values) -> dict[str, bool]:
    """C41: last losses of `none` and of `100 steps`."""
    return {
        # Seen: 1.652 and 0.304.
        "a deep post-norm model without warm-up ends at a higher loss, by 0.5 in every seed": (
            min(losses["none"]) - max(losses["100 steps"]) > 0.5
        )
    }


def of_dropout(gaps: Values, validation: Values) -> dict[str, bool]:
    """C46, T19: validation less training loss, and validation loss, of each variant."""
    whole = min(gaps["no dropout"])
    return {
        # Seen: 0.29 and 0.21 of 1.15.
        "dropout takes half of the gap between training and validation away": (
            max(gaps["dropout 0.1"]) < whole / 2
        ),
        "so does a smaller model": max(gaps["smaller model"]) < whole / 2,
        # Seen: 1.437 ± 0.017 and 0.989 ± 0.013.
        "dropout lowers the loss on validation by 0.2": (
            min(validation["no dropout"]) - max(validation["dropout 0.1"]) > 0.2
        ),
    }


def of_label_smoothing(confidence: Values, error: Values) -> dict[str, bool]:
    """C47: confidence and calibration error, by share of noise and smoothing such as `20%, 0.1`."""
    return {
        # Seen: 0.761 ± 0.012 and 0.842 ± 0.006; 0.905 ± 0.000 and 1.000 ± 0.000.
        "smoothing lowers confidence, with noisy labels and with clean ones": all(
            min(confidence[f"{noise}, 0.0"]) - max(confidence[f"{noise}, 0.1"]) > 0.03
            for noise in ("20%", "0%")
        ),
        # Seen: 0.090 of 0.130.
        "on noisy labels it takes a fifth off the calibration error": (
            max(error["20%, 0.1"]) < 0.8 * min(error["20%, 0.0"])
        ),
        # Seen: 0.095 and 0.001.
        "on clean labels it adds 0.05 to it": min(error["0%, 0.1"]) - max(error["0%, 0.0"]) > 0.05,
    }


def of_teacher_forcing(steps: Mapping[str, Values], every: int) -> dict[str, bool]:
    """C48: steps to 90% by task and kind of input, infinite where it was not reached."""
    forced = {task: max(kinds["teacher forcing"]) for task, kinds in steps.items()}
    free = ("share 0, 1 pass", "share 0, 8 passes")
    return {
        # Seen: 160 of 80.
        "where the token before says what comes next, it learns in two thirds of the steps": all(
            min(steps["counting"][kind]) >= 1.5 * forced["counting"] for kind in free
        ),
        # Seen: 160 and 120.
        "where the source says everything, it is at most three reports ahead": all(
            max(steps["reversing"][kind]) - min(steps["reversing"]["teacher forcing"]) <= 3 * every
            for kind in free
        ),
    }


def of_longer_sequences(right: Mapping[str, Mapping[int, Sequence[float]]]) -> dict[str, bool]:
    """C14: share of symbols that are right, by positions and length; trained on up to 32."""
    return {
        # Seen: 1.00 ± 0.00 and, at 96, 0.11 ± 0.01.
        "sinusoidal positions work up to the length trained on, and fail beyond it": (
            min(right["sinusoidal"][32]) > 0.9 and max(right["sinusoidal"][96]) < 0.3
        ),
        # Seen: 1.00 ± 0.00.
        "Shaw's and Transformer-XL's lose nothing at four times the length": all(
            min(right[kind][128]) > 0.95 for kind in ("Shaw", "Transformer-XL")
        ),
        # Seen: 1.00 ± 0.00 and 0.81 ± 0.02.
        "rotary ones and T5's buckets do far better at twice the length": (
            min(right["rotary"][64]) > 0.9 and min(right["T5's buckets"][64]) > 0.6
        ),
        # Seen: 0.34 ± 0.02 and 0.33 ± 0.00.
        "ALiBi loses nothing of what it has learned": (
            min(right["ALiBi"][128]) > max(right["ALiBi"][32]) - 0.1
        ),
    }


def of_feed_forward_width(losses: Values) -> dict[str, bool]:
    """C38: last losses on random labels, by width."""

    def stores_more(more, less):
        return min(losses[less]) - max(losses[more]) > 0.1

    return {
        # Seen: 2.097 and 1.868, 1.828 and 1.233.
        "a wider hidden layer stores more": stores_more("d", "d / 4") and stores_more("4 d", "d"),
        # Seen: 1.064 and 0.806.
        "as many weights in a second layer store more still": stores_more("d, 2 layers", "4 d"),
    }
