"""Learning-rate schedules: a rise to the peak, and what comes after it."""

import math
from typing import Self

from keras_transformer._backend import keras, ops
from keras_transformer.typing import Config, Tensor


class _Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The base of schedules: the count of steps, and the configuration.

    A schedule keeps its constructor's arguments, and nothing else, as attributes, and gives in
    `share_of_peak(step)` the share of the peak at `step`, a float32 of at least 1.
    """

    def __call__(self, step: Tensor) -> Tensor:
        """Return the learning rate at `step`, a float32 scalar.

        Args:
            step: Number of updates made so far. Papers count from 1; step 0, Keras's first, gets
                the learning rate of step 1, so that no update is wasted on a rate of 0.
        """
        return self.peak * self.share_of_peak(ops.maximum(ops.cast(step, "float32"), 1.0))

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return dict(vars(self))


@keras.saving.register_keras_serializable("keras_transformer")
class InverseSquareRoot(_Schedule):
    """Linear warm-up to a peak, then decay with the inverse square root of the step.

    Args:
        peak: The highest learning rate, reached at step `warmup_steps`.
        warmup_steps: Number of steps of the warm-up, at least 1.

    Raises:
        ValueError: If `peak` or `warmup_steps` is not positive.

    Reference: Vaswani et al. 2017, section 5.3.
    """

    def __init__(self, peak: float, warmup_steps: int) -> None:
        _check_peak(peak)
        _check_warmup(warmup_steps)
        self.peak = peak
        self.warmup_steps = warmup_steps

    @classmethod
    def noam(cls, d_model: int, warmup_steps: int = 4000, factor: float = 1.0) -> Self:
        """Make the paper's schedule: factor * d_model^-0.5 * min(n^-0.5, n * warmup^-1.5).

        Args:
            d_model: The model's width D.
            warmup_steps: Number of steps of the warm-up.
            factor: Multiplies the whole schedule.
        """
        return cls(factor * (d_model * warmup_steps) ** -0.5, warmup_steps)

    def share_of_peak(self, step: Tensor) -> Tensor:
        """Rise linearly, then fall with the root."""
        return ops.minimum(step / self.warmup_steps, ops.sqrt(self.warmup_steps / step))


@keras.saving.register_keras_serializable("keras_transformer")
class Constant(_Schedule):
    """Linear warm-up to a peak, and the peak from then on.

    Args:
        peak: The highest learning rate, reached at step `warmup_steps`.
        warmup_steps: Number of steps of the warm-up; with 1, there is none.

    Raises:
        ValueError: If `peak` or `warmup_steps` is not positive.
    """

    def __init__(self, peak: float, warmup_steps: int = 1) -> None:
        _check_peak(peak)
        _check_warmup(warmup_steps)
        self.peak = peak
        self.warmup_steps = warmup_steps

    def share_of_peak(self, step: Tensor) -> Tensor:
        """Rise linearly, then stay: the formula of the rise alone would go on rising."""
        return ops.minimum(step / self.warmup_steps, 1.0)


@keras.saving.register_keras_serializable("keras_transformer")
class LinearDecay(_Schedule):
    """Linear warm-up to a peak, then linear decay to 0 at the last step.

    Args:
        peak: The highest learning rate, reached at step `warmup_steps`.
        warmup_steps: Number of steps of the warm-up, at least 1.
        steps: Number of steps in all, more than `warmup_steps`.

    Raises:
        ValueError: If a value is out of its range.

    Reference: Devlin et al. 2018, "BERT", appendix A.2.
    """

    def __init__(self, peak: float, warmup_steps: int, steps: int) -> None:
        _check_peak(peak)
        _check_warmup(warmup_steps, steps)
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.steps = steps

    def share_of_peak(self, step: Tensor) -> Tensor:
        """Rise and fall linearly."""
        fall = ops.maximum(self.steps - step, 0.0) / (self.steps - self.warmup_steps)
        return ops.minimum(step / self.warmup_steps, fall)


@keras.saving.register_keras_serializable("keras_transformer")
class WarmupCosine(_Schedule):
    """Linear warm-up to a peak, then half a cosine down to the end value at the last step.

    Args:
        peak: The highest learning rate, reached at step `warmup_steps`.
        warmup_steps: Number of steps of the warm-up, at least 1.
        steps: Number of steps in all, more than `warmup_steps`.
        end_fraction: The share of the peak that is left at the last step and after it.

    Raises:
        ValueError: If a value is out of its range.

    Reference: Loshchilov & Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts",
        without restarts.
    """

    def __init__(
        self, peak: float, warmup_steps: int, steps: int, end_fraction: float = 0.0
    ) -> None:
        _check_peak(peak)
        _check_warmup(warmup_steps, steps)
        _check_share("end_fraction", end_fraction)
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.steps = steps
        self.end_fraction = end_fraction

    def share_of_peak(self, step: Tensor) -> Tensor:
        """Rise linearly, then fall with the cosine, which is 1 all through the warm-up."""
        done = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        return ops.minimum(step / self.warmup_steps, _cosine(1.0, self.end_fraction, done))


@keras.saving.register_keras_serializable("keras_transformer")
class OneCycle(_Schedule):
    """Half a cosine up from a start value to a peak, then half a cosine down to an end value.

    The rates are those of PyTorch's `OneCycleLR`, where `start_fraction` is 1 / `div_factor` and
    `end_fraction` is 1 / (`div_factor` * `final_div_factor`). Momentum is left alone.

    Args:
        peak: The highest learning rate.
        steps: Number of steps in all.
        warmup_fraction: The share of `steps` that the rise takes.
        start_fraction: The share of the peak at the first step.
        end_fraction: The share of the peak at the last step and after it, less than
            `start_fraction`.

    Raises:
        ValueError: If a value is out of its range, or the rise would take a single step.

    Reference: Smith & Topin 2019, "Super-Convergence".
    """

    def __init__(
        self,
        peak: float,
        steps: int,
        warmup_fraction: float = 0.3,
        start_fraction: float = 1 / 25,
        end_fraction: float = 1e-4,
    ) -> None:
        _check_peak(peak)
        if not 1 < warmup_fraction * steps < steps:
            raise ValueError(
                "warmup_fraction must be less than 1 and more than one of the steps, got "
                f"warmup_fraction={warmup_fraction} and steps={steps}."
            )
        _check_share("start_fraction", start_fraction)
        if not 0 <= end_fraction < start_fraction:
            raise ValueError(
                "end_fraction must be at least 0 and less than start_fraction, got "
                f"end_fraction={end_fraction} and start_fraction={start_fraction}."
            )
        self.peak = peak
        self.steps = steps
        self.warmup_fraction = warmup_fraction
        self.start_fraction = start_fraction
        self.end_fraction = end_fraction

    def share_of_peak(self, step: Tensor) -> Tensor:
        """Rise with one cosine, and from the top fall with the other."""
        top = self.warmup_fraction * self.steps
        rise = _cosine(self.start_fraction, 1.0, (step - 1) / (top - 1))
        fall = _cosine(1.0, self.end_fraction, (step - top) / (self.steps - top))
        return ops.minimum(rise, fall)


def _cosine(start: float, end: float, done: Tensor) -> Tensor:
    """Go from `start` to `end` along half a cosine as `done` goes from 0 to 1, and stay there."""
    return end + (start - end) * 0.5 * (1 + ops.cos(math.pi * ops.clip(done, 0.0, 1.0)))


def _check_peak(peak: float) -> None:
    if not peak > 0:
        raise ValueError(f"peak must be positive, got {peak}.")


def _check_warmup(warmup_steps: int, steps: int | None = None) -> None:
    if steps is None:
        if warmup_steps < 1:
            raise ValueError(f"warmup_steps must be at least 1, got {warmup_steps}.")
    elif not 1 <= warmup_steps < steps:
        raise ValueError(
            "warmup_steps must be at least 1 and less than steps, got "
            f"warmup_steps={warmup_steps} and steps={steps}."
        )


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}.")
