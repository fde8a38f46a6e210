"""Loss scaling for float16, with a count of the steps it skipped."""

from typing import Any

import keras


@keras.saving.register_keras_serializable("keras_transformer")
class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Keras's dynamic loss scaling, which also counts the updates that it left out.

    float16 reaches from 6e-8 to 65504. The loss is multiplied by a scale so that small gradients do
    not vanish; where a gradient becomes infinite, the update is left out and the scale halved, and
    after `dynamic_growth_steps` finite ones it is doubled.

    Args:
        inner_optimizer: The optimizer that makes the updates.
        **kwargs: What else `keras.optimizers.LossScaleOptimizer` takes.

    Reference: Micikevicius et al. 2018, "Mixed Precision Training".
    """

    def build(self, var_list: Any) -> None:
        """Create the optimizer's variables."""
        super().build(var_list)
        self.skipped_steps = self.add_variable(
            shape=(), dtype="int64", initializer="zeros", aggregation="none", name="skipped_steps"
        )

    def _stateful_handle_non_finite_grads(self) -> None:
        self.skipped_steps.assign(self.skipped_steps + 1)
        super()._stateful_handle_non_finite_grads()
