"""The verdict of `benchmarks.one_shot_pruning`: the default's cut decides, on the text of the mark."""

from typing import Any

from benchmarks.one_shot_pruning import MARK, verdict
from tools.settings import Recipe


def figures_with(default: float, other: float) -> dict[str, Any]:
    whole = {"perplexity": 90.0}
    recipe = Recipe()
    cuts = [
        {"types": "ffn", "saliency": recipe.saliency, "damping": recipe.damping, "mark_text": default, **whole},
        {"types": "ffn", "saliency": "first", "damping": recipe.damping, "mark_text": other, **whole},
        {"types": "all", "saliency": recipe.saliency, "damping": recipe.damping, "mark_text": other, **whole},
    ]
    return {"dense": {"mark_text": 40.0, "perplexity": 45.0}, "cuts": cuts}


def test_a_better_cut_than_the_default_does_not_help() -> None:
    assert verdict(figures_with(default=40 * MARK + 0.1, other=41.0)) == (
        {"mark_text": round(MARK + 0.0025, 4), "perplexity": 2.0},
        False,
    )


def test_the_default_passes_on_the_text_of_the_mark_alone() -> None:
    ratios, holds = verdict(figures_with(default=40 * MARK - 0.1, other=90.0))
    assert holds
    assert ratios["perplexity"] > MARK
