"""Learning-rate schedules, and the paper's optimizer."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_transformer")
class InverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to a peak, then decay with the inverse square root of the step.

    Args:
        peak: The highest learning rate, reached at step `warmup_steps`.
        warmup_steps: Number of steps of the warm-up, at least 1.

    Call arguments:
        step: Number of updates made so far. The paper counts from 1; step 0, Keras's first, gets
            the learning rate of step 1, so that no update is wasted on a rate of 0.

    Raises:
        ValueError: If `peak` or `warmup_steps` is not positive.

    Reference: Vaswani et al. 2017, section 5.3.
    """

    def __init__(self, peak, warmup_steps):
        if not peak > 0:
            raise ValueError(f"peak must be positive, got {peak}.")
        if warmup_steps < 1:
            raise ValueError(f"warmup_steps must be at least 1, got {warmup_steps}.")
        self.peak = peak
        self.warmup_steps = warmup_steps

    @classmethod
    def noam(cls, d_model, warmup_steps=4000, factor=1.0):
        """Make the paper's schedule: factor * d_model^-0.5 * min(n^-0.5, n * warmup^-1.5).

        Args:
            d_model: The model's width D.
            warmup_steps: Number of steps of the warm-up.
            factor: Multiplies the whole schedule.
        """
        return cls(factor * (d_model * warmup_steps) ** -0.5, warmup_steps)

    def __call__(self, step):
        """Return the learning rate at `step`, a float32 scalar."""
        step = ops.maximum(ops.cast(step, "float32"), 1.0)
        rise = step / self.warmup_steps
        fall = ops.sqrt(self.warmup_steps / step)
        return self.peak * ops.minimum(rise, fall)

    def get_config(self):
        """Return the constructor's arguments."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps}


@keras.saving.register_keras_serializable("keras_transformer")
class LinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to a peak, then linear decay to 0 at the last step.

    Args:
        peak: The highest learning rate, reached at step `warmup_steps`.
        warmup_steps: Number of steps of the warm-up, at least 1.
        steps: Number of steps in all, more than `warmup_steps`.

    Call arguments:
        step: Number of updates made so far; step 0 gets the learning rate of step 1.

    Raises:
        ValueError: If a value is out of its range.

    Reference: Devlin et al. 2018, "BERT", appendix A.2.
    """

    def __init__(self, peak, warmup_steps, steps):
        if not peak > 0:
            raise ValueError(f"peak must be positive, got {peak}.")
        if not 1 <= warmup_steps < steps:
            raise ValueError(
                "warmup_steps must be at least 1 and less than steps, got "
                f"warmup_steps={warmup_steps} and steps={steps}."
            )
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.steps = steps

    def __call__(self, step):
        """Return the learning rate at `step`, a float32 scalar."""
        step = ops.maximum(ops.cast(step, "float32"), 1.0)
        rise = step / self.warmup_steps
        fall = ops.maximum(self.steps - step, 0.0) / (self.steps - self.warmup_steps)
        return self.peak * ops.minimum(rise, fall)

    def get_config(self):
        """Return the constructor's arguments."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "steps": self.steps}


def paper_adam(learning_rate, **kwargs):
    """Make Adam as the paper has it: beta 0.9 and 0.98, epsilon 1e-9.

    Args:
        learning_rate: A number or a schedule.
        **kwargs: Everything else that `keras.optimizers.Adam` takes, such as `global_clipnorm`,
            which clips by the norm of all gradients together.

    Reference: Vaswani et al. 2017, section 5.3.
    """
    return keras.optimizers.Adam(learning_rate, beta_1=0.9, beta_2=0.98, epsilon=1e-9, **kwargs)
