"""Pruning criteria: the ways known in the field to say which minimal parameter groups a model can do without."""

from collections.abc import Callable

from torch import nn

from tools.errors import InputError
from tools.pruning.criteria.activation import Activation
from tools.pruning.criteria.chance import Chance
from tools.pruning.criteria.contract import Criterion, LayerwiseCriterion, Statistics
from tools.pruning.criteria.fluctuation import Fluctuation
from tools.pruning.criteria.magnitude import Magnitude
from tools.pruning.criteria.obs import Obs
from tools.pruning.criteria.taylor import Gates, TaylorElement
from tools.pruning.saliency_meter import SaliencyMeter
from tools.pruning.token_sequence_saliency import TokenSequenceSaliencyMeter

__all__ = ["CRITERIA", "Criterion", "LayerwiseCriterion", "Statistics", "make_criterion"]

CRITERIA: dict[str, Callable[[nn.Module, int, float], Criterion]] = {
    "magnitude": lambda model, seed, damping: Magnitude(model),
    "activation": lambda model, seed, damping: Activation(model),
    "random": lambda model, seed, damping: Chance(model, seed),
    "taylor_element": lambda model, seed, damping: TaylorElement(model),
    "taylor_element_mixed": lambda model, seed, damping: TaylorElement(model, mixed=True),
    "taylor_vector": lambda model, seed, damping: Gates(model, SaliencyMeter(model, "first")),
    "fisher": lambda model, seed, damping: Gates(model, SaliencyMeter(model, "second")),
    "token_sequence": lambda model, seed, damping: Gates(model, TokenSequenceSaliencyMeter(model)),
    "obs": lambda model, seed, damping: Obs(model, damping),
    "obs_greedy": lambda model, seed, damping: Obs(model, damping, greedy=True),
    "fluctuation": lambda model, seed, damping: Fluctuation(model),
}
"""Every criterion by name, made from a live model, a seed and a damping."""


def make_criterion(name: str, model: nn.Module, seed: int = 0, damping: float = 0.3) -> Criterion:
    """The criterion `name` for `model`; `seed` is read by "random", `damping` by "obs" and "obs_greedy".

    Raises InputError where there is none of that name.
    """
    if name not in CRITERIA:
        raise InputError(f"There is no pruning criterion {name!r}; the criteria are: {', '.join(CRITERIA)}.")
    return CRITERIA[name](model, seed, damping)
