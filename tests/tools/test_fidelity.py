"""The ladder of a search: which rungs there can be, and what is trained on each."""

import pytest
from pydantic import ValidationError

from tools.fidelity import Fidelity, FidelitySettings, Ladder, fidelity_in_words
from tools.settings import Recipe


def ladder(*fidelities: Fidelity, steps: int = 6, **more: int) -> Ladder:
    return Ladder(fidelities=fidelities, recipe=Recipe(training_steps=steps), **more)


def test_a_search_without_settings_has_one_rung() -> None:
    only = Ladder(recipe=Recipe())
    assert (only.fidelities, only.top) == (("short_training",), 0)
    assert only.recipe_of("short_training") == Recipe()


def test_each_rung_trains_longer() -> None:
    full = ladder("one_shot", "short_training", "long_training", reduction_factor=3)
    assert [full.steps(one) for one in full.fidelities] == [0, 6, 18]
    assert full.recipe_of("one_shot") == full.recipe_of("short_training") == full.recipe
    assert full.recipe_of("long_training") == full.recipe.model_copy(update={"training_steps": 18})
    assert ladder("long_training", long_training_steps=7).recipe_of("long_training").training_steps == 7


@pytest.mark.parametrize("names", [("short_training", "one_shot"), ("one_shot", "one_shot"), (), ("forecast",)])
def test_rungs_rise_and_are_known(names: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        FidelitySettings.model_validate({"fidelities": names})


def test_rungs_that_are_the_same_are_refused() -> None:
    with pytest.raises(ValidationError, match="short_training 0"):
        ladder("one_shot", "short_training", steps=0)
    with pytest.raises(ValidationError, match="long_training 6"):
        ladder("short_training", "long_training", long_training_steps=6)
    assert ladder("short_training", steps=0).top == 0


def test_every_fidelity_has_words() -> None:
    assert fidelity_in_words("one_shot") == "one-shot repair"
    assert fidelity_in_words("quick_look") == "quick look"
