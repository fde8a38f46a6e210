"""What the experiments have to show holds for the numbers on their page, and fails on others."""

import importlib.util
import math
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"


def load_claims():
    spec = importlib.util.spec_from_file_location("claims", EXPERIMENTS / "claims.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


claims = load_claims()
# As docs/experiments.md has them; a mean where it does not list the seeds.
WARMUP = {"none": [1.652, 1.655, 1.705], "100 steps": [0.034, 0.048, 0.304]}
GAPS = {
    "no dropout": [1.15, 1.16, 1.15],
    "dropout 0.1": [0.26, 0.29, 0.24],
    "smaller model": [0.21, 0.18, 0.13],
}
VALIDATION = {"no dropout": [1.437], "dropout 0.1": [0.989], "smaller model": [1.017]}
CONFIDENCE = {"20%, 0.0": [0.842], "20%, 0.1": [0.761], "0%, 0.0": [1.0], "0%, 0.1": [0.905]}
ERROR = {
    "20%, 0.0": [0.132, 0.131, 0.130],
    "20%, 0.1": [0.090, 0.079, 0.085],
    "0%, 0.0": [0.000, 0.001, 0.000],
    "0%, 0.1": [0.095, 0.095, 0.095],
}
STEPS = {
    "reversing": {
        "teacher forcing": [140, 140, 120],
        "share 0, 1 pass": [140, 140, 140],
        "share 0, 8 passes": [160, 140, 160],
    },
    "counting": {
        "teacher forcing": [80, 80, 80],
        "share 0, 1 pass": [240, 280, math.inf],
        "share 0, 8 passes": [160, 220, 200],
    },
}
RIGHT = {
    "sinusoidal": {32: [1.00], 64: [0.14], 96: [0.11], 128: [0.08]},
    "rotary": {32: [1.00], 64: [1.00], 96: [0.98], 128: [0.90]},
    "T5's buckets": {32: [1.00], 64: [0.81], 96: [0.46], 128: [0.30]},
    "ALiBi": {32: [0.34], 64: [0.33], 96: [0.34], 128: [0.33]},
    "Shaw": {32: [1.00], 64: [1.00], 96: [1.00], 128: [1.00]},
    "Transformer-XL": {32: [1.00], 64: [1.00], 96: [1.00], 128: [1.00]},
}
WIDTHS = {
    "d / 4": [2.097, 2.143, 2.157],
    "d": [1.847, 1.868, 1.828],
    "4 d": [1.064, 1.100, 1.233],
    "d, 2 layers": [0.649, 0.806, 0.609],
}
SEEN = {
    "warmup": (claims.of_warmup, (WARMUP,)),  # C41
    "dropout": (claims.of_dropout, (GAPS, VALIDATION)),  # C46, T19
    "label_smoothing": (claims.of_label_smoothing, (CONFIDENCE, ERROR)),  # C47
    "teacher_forcing": (claims.of_teacher_forcing, (STEPS, 20)),  # C48
    "longer_sequences": (claims.of_longer_sequences, (RIGHT,)),  # C14
    "feed_forward_width": (claims.of_feed_forward_width, (WIDTHS,)),  # C38
}
# One number of one seed that speaks against a claim: where it stands, and a part of the claim.
AGAINST = [
    ("warmup", (0, "100 steps"), 1.6, "without warm-up"),
    ("dropout", (0, "dropout 0.1"), 0.9, "takes half of the gap"),
    ("dropout", (0, "smaller model"), 0.9, "so does a smaller model"),
    ("dropout", (1, "dropout 0.1"), 1.4, "lowers the loss on validation"),
    ("label_smoothing", (0, "20%, 0.1"), 0.85, "lowers confidence"),
    ("label_smoothing", (0, "0%, 0.1"), 1.0, "lowers confidence"),
    ("label_smoothing", (1, "20%, 0.1"), 0.13, "on noisy labels"),
    ("label_smoothing", (1, "0%, 0.1"), 0.0, "on clean labels"),
    ("teacher_forcing", (0, "counting", "share 0, 8 passes"), 80, "what comes next"),
    ("teacher_forcing", (0, "reversing", "share 0, 1 pass"), math.inf, "says everything"),
    ("longer_sequences", (0, "sinusoidal", 96), 0.9, "sinusoidal"),
    ("longer_sequences", (0, "Shaw", 128), 0.5, "Shaw's"),
    ("longer_sequences", (0, "Transformer-XL", 128), 0.5, "Shaw's"),
    ("longer_sequences", (0, "rotary", 64), 0.2, "rotary"),
    ("longer_sequences", (0, "T5's buckets", 64), 0.2, "rotary"),
    ("longer_sequences", (0, "ALiBi", 128), 0.1, "ALiBi"),
    ("feed_forward_width", (0, "d"), 2.1, "a wider hidden layer"),
    ("feed_forward_width", (0, "4 d"), 1.9, "a wider hidden layer"),
    ("feed_forward_width", (0, "d, 2 layers"), 1.1, "second layer"),
]


@pytest.mark.parametrize("name", SEEN)
def test_what_was_seen_holds(name, capsys):
    function, numbers = SEEN[name]
    found = function(*numbers)
    assert all(found.values())
    claims.check_claims(found)
    assert capsys.readouterr().out.count("holds: ") == len(found)
    script = (EXPERIMENTS / f"{name}.py").read_text("utf-8")
    assert f"check_claims({function.__name__}(" in script
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert makefile.count(f"experiments/{name}.py") == 2  # by `experiments` and by `nightly`


@pytest.mark.parametrize(("name", "place", "number", "claim"), AGAINST)
def test_a_seed_that_speaks_against_a_claim_makes_it_fail(name, place, number, claim, capsys):
    function, numbers = SEEN[name]
    found = function(*_changed(numbers, place, number))
    (failed,) = [text for text, held in found.items() if not held]
    assert claim in failed
    with pytest.raises(SystemExit) as end:
        claims.check_claims(found)
    assert end.value.code == 1
    assert f"DOES NOT HOLD: {failed}" in capsys.readouterr().out


def test_every_claim_has_been_seen_to_fail():
    for name, (function, numbers) in SEEN.items():
        texts = [claim for other, _, _, claim in AGAINST if other == name]
        assert all(any(part in claim for part in texts) for claim in function(*numbers))


def _changed(numbers, place, number):
    """Return the numbers with that of the first seed changed at one place."""
    if not place:
        return [number, *numbers[1:]]
    first, *rest = place
    if isinstance(numbers, tuple):
        return tuple(_changed(x, rest, number) if i == first else x for i, x in enumerate(numbers))
    return {**numbers, first: _changed(numbers[first], rest, number)}
