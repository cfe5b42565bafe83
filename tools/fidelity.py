"""At which fidelity a design is measured: the ladder of a search, from cheap and rough to dear and near the truth.

Losses of different fidelities never compare. The forecast of saliency, which costs nothing, is no rung: it screens the
designs of a turn before any is paid for (setting `proposals_per_turn`).
"""

from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tools.settings import Recipe

Fidelity = Literal["one_shot", "short_training", "long_training"]
"""one_shot: cut and repaired, not trained; short_training: then `recipe.training_steps`; long_training: then more."""
FIDELITIES: tuple[Fidelity, ...] = get_args(Fidelity)
"""From the lowest to the highest."""
_WORDS = {
    "one_shot": "one-shot repair",
    "short_training": "short training",
    "long_training": "long training",
    "source": "no training",
}


def fidelity_in_words(fidelity: str) -> str:
    """`short training`, to follow `after`."""
    return _WORDS.get(fidelity, fidelity.replace("_", " "))


class FidelitySettings(BaseModel):
    """The rungs that a design can climb, and how many of a rung do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fidelities: tuple[Fidelity, ...] = Field(
        ("short_training",),
        min_length=1,
        description="rungs at which designs are measured, rising: one_shot (cut and repaired, not trained), "
        "short_training (recipe.training_steps), long_training; all begin on the first, and the best of a rung are "
        "measured again on the next (ASHA)",
    )
    reduction_factor: int = Field(
        4, ge=2, description="of so many designs on a rung one is promoted to the next (eta of ASHA)"
    )
    long_training_steps: int | None = Field(
        None,
        ge=1,
        description="optimiser steps after the cut of long_training; null: reduction_factor times "
        "recipe.training_steps",
    )

    @field_validator("fidelities")
    @classmethod
    def _rise(cls, value: tuple[Fidelity, ...]) -> tuple[Fidelity, ...]:
        places = [FIDELITIES.index(one) for one in value]
        if places != sorted(set(places)):
            raise ValueError(f"fidelities must rise, each once, in this order: {', '.join(FIDELITIES)}")
        return value


class Ladder(FidelitySettings):
    """The rungs of one search with the recipe of each; rung 0 is where all designs begin."""

    recipe: Recipe

    @model_validator(mode="after")
    def _each_trains_longer(self) -> Self:
        steps = [self.steps(fidelity) for fidelity in self.fidelities]
        if steps != sorted(set(steps)):
            told = ", ".join(f"{name} {count}" for name, count in zip(self.fidelities, steps, strict=True))
            raise ValueError(f"each rung must train for more steps than the one before it, and here it is {told}")
        return self

    @property
    def top(self) -> int:
        """Number of the highest rung."""
        return len(self.fidelities) - 1

    def steps(self, fidelity: Fidelity) -> int:
        """Optimiser steps after the cut."""
        if fidelity == "one_shot":
            return 0
        short = self.recipe.training_steps
        if fidelity == "short_training":
            return short
        return self.reduction_factor * short if self.long_training_steps is None else self.long_training_steps

    def recipe_of(self, fidelity: Fidelity) -> Recipe:
        """What is given with a request; the first two have the same, so that what they measured stays theirs."""
        if fidelity != "long_training":
            return self.recipe
        return self.recipe.model_copy(update={"training_steps": self.steps(fidelity)})
