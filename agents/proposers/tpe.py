"""TPE, the tree-structured Parzen estimator (Bergstra et al. 2011), as Optuna has it."""

import logging
import random
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from agents.proposers.judge import Candidate, Judge
from agents.proposers.standing import Design, Draft, Standing, measured
from tools.errors import InputError
from tools.spaces import SearchSpace

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


class TreeParzen(Judge):
    """Optuna's TPESampler with its defaults, on the parameters of the space.

    A study is made anew from the history at each turn. A sampled design that is not legal is brought to the nearest
    legal one; what is learnt from is the design that was tried. Failed trials teach nothing. Those under way count as
    bad until they end (Optuna's constant liar).
    """

    name: ClassVar[str] = "tpe"

    def prepare(self) -> None:
        try:
            import optuna  # noqa: F401
        except ImportError as error:
            raise InputError(
                "TPE needs the package optuna: install Penjing with its extra, uv pip install -e '.[judges]'."
            ) from error

    def candidates(self, situation: Standing[Design, Draft], rng: random.Random) -> Iterator[Candidate[Design]]:
        self.prepare()
        import optuna

        # One line for every study would be one for every turn.
        logging.getLogger("optuna").setLevel(logging.WARNING)
        space, distributions = situation.space, _distributions(situation.space)
        running = [tried for tried in situation.history if tried.running]
        # What is under way is taken for bad, so that the next design is looked for elsewhere.
        sampler = optuna.samplers.TPESampler(seed=rng.randrange(2**32), constant_liar=bool(running))
        study = optuna.create_study(sampler=sampler)
        made = partial(optuna.trial.create_trial, distributions=distributions)
        for value, tried in measured(situation.history):
            study.add_trial(made(params=_codes(space, tried.design, distributions), value=value))
        for tried in running:
            codes = _codes(space, tried.design, distributions)
            study.add_trial(made(params=codes, state=optuna.trial.TrialState.RUNNING))
        while True:
            codes = study.ask(distributions).params
            yield Candidate(space.decode([codes[name] for name in distributions]), "drawn by TPE")


def _codes(space: SearchSpace[Design, Draft], design: Design, names: Iterable[str]) -> dict[str, int]:
    return dict(zip(names, space.encode(design), strict=True))


def _distributions(space: SearchSpace[Design, Draft]) -> "dict[str, BaseDistribution]":
    """One distribution for each parameter, over the places of its options."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    return {
        parameter.name: IntDistribution(0, len(parameter.options) - 1)
        if parameter.ordered
        else CategoricalDistribution(range(len(parameter.options)))
        for parameter in space.parameters
    }
