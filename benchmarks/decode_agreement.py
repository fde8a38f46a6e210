"""Do all engines write the same?"""

import decode_peers as peers
import numpy as np
from decode_engines import EXTRA_LENGTH, FLOAT32, load_model

NEAR_TIE = 1e-3  # logits this close may be ordered either way by sums in another order


def agreement(folder, job, beam, outputs):
    """Compare every engine's outputs with those of the first that has any.

    Returns:
        By engine, a text that says how many rows are the same; and by engine, why it can't be
        compared: what is in float32 differs in other places than near ties.
    """
    reference, expected = next(iter(outputs.items()))
    with np.load(folder / f"{job}.npz") as file:
        sources = [row[row != peers.PADDING] for name in file.files for row in file[name]]
    # Ours ends a row at its own limit, others a batch at that of its longest row.
    expected = _cut(expected, sources)
    model = None
    found, wrong = {}, {}
    for name, rows in outputs.items():
        rows = _cut(rows, sources)
        others = [i for i, row in enumerate(rows) if row != expected[i]]
        ties = 0
        if beam == 1 and name in FLOAT32 and others:
            model = model or load_model(folder)
            ties = sum(_near_tie(model, sources[i], expected[i], rows[i]) for i in others)
            if ties < len(others):
                wrong[name] = (
                    f"differs from {reference} in {len(others)} of {len(rows)} rows, of which only "
                    f"{ties} first differ at a near tie"
                )
        near = f" (+{ties} near ties)" if ties else ""
        found[name] = f"{len(rows) - len(others)}/{len(rows)}{near}"
    return found, wrong


def _cut(rows, sources):
    pairs = zip(rows, sources, strict=True)
    return [row[: len(source) + EXTRA_LENGTH] for row, source in pairs]


def _near_tie(model, source, one, other):
    """Say whether two outputs part where their tokens' logits are nearly equal."""
    pair = [[*row, peers.END] for row in (one, other)]
    at = next(i for i, (a, b) in enumerate(zip(*pair, strict=False)) if a != b)
    target = np.array([[peers.BEGIN, *one[:at]]])
    logits = model({"source_ids": source[None], "target_ids": target}, training=False)
    logits = np.array(logits)[0, -1]
    return abs(logits[pair[0][at]] - logits[pair[1][at]]) <= NEAR_TIE
