"""Optimizers: Adam as the paper has it, AdamW and Adafactor, all of them Keras optimizers.

Every maker also takes what Keras's optimizers take: `global_clipnorm`, which clips by the norm of
all gradients together, `gradient_accumulation_steps`, and `use_ema` with `ema_momentum`, which
averages the weights while they are trained and puts the average in their place when `fit` ends.
"""

import keras


def paper_adam(learning_rate, **kwargs):
    """Make Adam as the paper has it: beta 0.9 and 0.98, epsilon 1e-9.

    Args:
        learning_rate: A number or a schedule.
        **kwargs: Everything else that `keras.optimizers.Adam` takes. Its `weight_decay` shrinks
            every variable; `adamw` spares those it does not suit.

    Reference: Vaswani et al. 2017, section 5.3; Kingma & Ba 2015, "Adam".
    """
    return keras.optimizers.Adam(learning_rate, beta_1=0.9, beta_2=0.98, epsilon=1e-9, **kwargs)


def adamw(learning_rate, weight_decay=0.01, **kwargs):
    """Make Adam with decoupled weight decay; without decay it is `paper_adam`.

    Each step first shrinks the weights by the share `learning_rate * weight_decay`, whatever their
    gradient. Biases and the scales and offsets of norms are not shrunk.

    Args:
        learning_rate: A number or a schedule.
        weight_decay: The share, before it is multiplied by the learning rate.
        **kwargs: Everything else that `keras.optimizers.AdamW` takes.

    Reference: Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization".
    """
    paper = {"beta_1": 0.9, "beta_2": 0.98, "epsilon": 1e-9}
    return AdamW(learning_rate, weight_decay, **{**paper, **kwargs})


def adafactor(learning_rate, **kwargs):
    """Make Adafactor with the paper's settings.

    Its learning rate is relative: a variable moves by that share of its own size. Step t takes the
    smaller of the learning rate and 1 / sqrt(t), with a schedule too. No momentum is kept, and the
    squares of a matrix's gradients are kept by their means over rows and over columns. Keras 3.15
    stores their product as well, so that it needs about as much memory as one more copy of the
    weights; Adam needs two.

    Args:
        learning_rate: A number or a schedule; the paper has 1e-2.
        **kwargs: Everything else that `keras.optimizers.Adafactor` takes. Its `weight_decay`
            shrinks every variable.

    Reference: Shazeer & Stern 2018, "Adafactor", algorithms 4 and 5.
    """
    return keras.optimizers.Adafactor(learning_rate, **kwargs)


@keras.saving.register_keras_serializable("keras_transformer")
class AdamW(keras.optimizers.AdamW):
    """Keras's AdamW, which leaves alone whatever has fewer than two axes: biases and norms.

    Keras can be told which variables to leave alone, too (`exclude_from_weight_decay`), but does
    not save what it was told; a rule needs no saving.
    """

    def _use_weight_decay(self, variable):
        return len(variable.shape) >= 2 and super()._use_weight_decay(variable)


# The makers by the names that a configuration has for them.
OPTIMIZERS = {"adam": paper_adam, "adamw": adamw, "adafactor": adafactor}
