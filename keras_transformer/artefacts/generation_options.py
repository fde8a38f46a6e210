"""Options of text generation: one set of names in Python, at the command line and in exports."""

import dataclasses
import math
import operator
from typing import Any

from keras_transformer.errors import InputError
from keras_transformer.options import option

GENERATION = "Generation"  # the part of `--help`


@dataclasses.dataclass(frozen=True)
class GenerationOptions:
    """Options of text generation. The defaults are greedy search.

    A `beam_size` above 1 is beam search. A `temperature` above 0 is sampling, which draws
    `num_hypotheses` targets a source, each on its own.

    Raises:
        InputError: If a value is out of its range, or two of them contradict each other.

    Reference: Wu et al. 2016 for the length penalty; Fan et al. 2018 for top-k, Holtzman et al.
    2020 for top-p, Nguyen et al. 2024 for min-p; Keskar et al. 2019 for the repetition penalty;
    Paulus et al. 2018 for n-grams that may not repeat.
    """

    beam_size: int = option("Hypotheses kept in beam search; 1 is greedy search.", 1, GENERATION)
    num_hypotheses: int = option("Outputs a line, best first.", 1, GENERATION)
    length_penalty: float = option(
        "Exponent a of ((5 + n) / 6)^a, which beam search divides scores by.", 0.6, GENERATION
    )
    temperature: float = option(
        "Sample, from logits divided by this; 0 takes the likeliest.", 0.0, GENERATION
    )
    top_k: int = option("Sample from this many tokens; 0 for all.", 0, GENERATION)
    top_p: float = option(
        "Sample from the likeliest tokens that together have this probability.", 1.0, GENERATION
    )
    min_p: float = option(
        "Sample from tokens at least this share as likely as the likeliest.", 0.0, GENERATION
    )
    seed: int = option("The same seed and line give the same sample.", 0, GENERATION)
    min_length: int = option("Fewest tokens of an output, the end included.", 0, GENERATION)
    max_length: int | None = option(
        "Most tokens; by default 50 more than the source has.", None, GENERATION
    )
    repetition_penalty: float = option(
        "Multiplies log-probabilities of tokens that occurred before.", 1.0, GENERATION
    )
    no_repeat_ngram: int = option(
        "No sequence of this many tokens occurs twice; 0 for any.", 0, GENERATION
    )

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:  # NumPy's numbers become Python's, which graphs are made of
                convert = float if field.type is float else operator.index
                try:
                    object.__setattr__(self, field.name, convert(value))
                except (TypeError, ValueError):
                    self._check(field.name, False, "must be a number")
        self._check("beam_size", self.beam_size >= 1, "must be at least 1")
        self._check("num_hypotheses", self.num_hypotheses >= 1, "must be at least 1")
        for name in ("length_penalty", "temperature", "repetition_penalty"):
            self._check(name, math.isfinite(getattr(self, name)), "must be a finite number")
        self._check("length_penalty", self.length_penalty >= 0, "must not be negative")
        self._check("temperature", self.temperature >= 0, "must not be negative")
        # Beyond that, float32 does not tell what may follow from what may not.
        sensible = not self.samples or 1e-6 <= self.temperature <= 1e6
        self._check("temperature", sensible, "must be 0 or between 1e-6 and 1e6")
        self._check("top_k", self.top_k >= 0, "must not be negative")
        self._check("top_p", 0 < self.top_p <= 1, "must be above 0 and at most 1")
        self._check("min_p", 0 <= self.min_p <= 1, "must be between 0 and 1")
        self._check("seed", -(2**31) <= self.seed < 2**31, "must fit 32 bits")
        self._check("min_length", self.min_length >= 0, "must not be negative")
        self._check("repetition_penalty", self.repetition_penalty > 0, "must be above 0")
        self._check("no_repeat_ngram", self.no_repeat_ngram >= 0, "must not be negative")
        if self.max_length is not None:
            self._check("max_length", self.max_length >= 1, "must be at least 1")
            self._check(
                "min_length",
                self.min_length <= self.max_length,
                f"exceeds max_length={self.max_length}",
            )
        if self.samples and self.beam_size > 1:
            raise InputError(
                f"beam_size={self.beam_size} and temperature={self.temperature} can't be "
                "combined: beam search does not sample. Use num_hypotheses to draw several."
            )
        if not self.samples:
            for name in ("top_k", "top_p", "min_p"):
                self._check(
                    name,
                    getattr(self, name) == getattr(type(self), name),
                    "only matters for sampling; set a temperature above 0",
                )
            self._check(
                "num_hypotheses",
                self.num_hypotheses <= self.beam_size,
                f"can't exceed beam_size={self.beam_size}; raise beam_size",
            )

    def _check(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise InputError(f"{name} {rule}, got {getattr(self, name)!r}.")

    @property
    def samples(self) -> bool:
        """True if tokens are drawn, rather than chosen for their probability."""
        return self.temperature > 0

    @property
    def width(self) -> int:
        """Number of hypotheses K that are followed at once."""
        return self.num_hypotheses if self.samples else self.beam_size

    def following_one(self) -> "GenerationOptions":
        """Return the same rules for a single hypothesis: greedy, or one sample."""
        return dataclasses.replace(self, beam_size=1, num_hypotheses=1)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, ready for JSON."""
        return dataclasses.asdict(self)


GREEDY = GenerationOptions()
