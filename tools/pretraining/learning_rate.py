"""The learning rate as a pure function of the step, so that it survives a restart and is the same on every rank.

A linear warm-up, then either a cosine to a tenth of the peak (the usual choice since Chinchilla, arXiv 2203.15556), or
warm-up, stable, decay (WSD; MiniCPM, arXiv 2404.06395): the peak, and at the end a linear decay to zero.
"""

import math

from tools.settings import Recipe

_COSINE_FLOOR = 0.1


def learning_rate(step: int, recipe: Recipe) -> float:
    """The learning rate of the optimiser step that follows `step` finished ones.

    It rises linearly over `recipe.warmup_steps`, whose last step has the peak. Over `recipe.training_steps` it falls
    along the curve of `recipe.learning_rate_schedule`; WSD decays in the last `recipe.decay_share` of them.
    """
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    done = min(1.0, (step - recipe.warmup_steps) / max(1, recipe.training_steps))
    if recipe.learning_rate_schedule == "wsd":
        return recipe.learning_rate * min(1.0, (1.0 - done) / recipe.decay_share)
    return recipe.learning_rate * (_COSINE_FLOOR + (1 - _COSINE_FLOOR) * 0.5 * (1 + math.cos(math.pi * done)))
