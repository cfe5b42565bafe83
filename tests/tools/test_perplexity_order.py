"""Models in the order of their losses on the same windows, and how sure it is."""

import math

import pytest

from tools.evaluation.perplexity_order import order_in_words, perplexity_order
from tools.evaluation.results import PerplexityResult


def taken(*losses: float, windows: str = "a", loss: float | None = None) -> PerplexityResult:
    return PerplexityResult(
        convention="seq-128",
        per="token",
        sequence_length=128,
        stride=128,
        bos="none",
        text="text",
        text_sha256="0",
        text_bytes=1,
        precision="float32",
        loss=sum(losses) / len(losses) if loss is None and losses else loss,
        windows_sha256=windows if losses else "",
        window_losses=losses,
    )


def test_each_is_told_its_distance_to_the_one_before() -> None:
    models = {"worst": taken(3.1, 4.3, 5.2), "best": taken(1.0, 2.0, 3.0), "second": taken(1.2, 1.9, 3.1)}
    best, second, worst = perplexity_order(models)
    assert [best.name, second.name, worst.name] == ["best", "second", "worst"] and best.behind is None
    assert second.behind is not None and worst.behind is not None
    assert second.behind.mean == pytest.approx(0.2 / 3) and worst.behind.mean == pytest.approx(6.4 / 3)
    assert second.behind.is_within_error and not worst.behind.is_within_error
    assert [place.as_data()["told_apart"] for place in (best, second, worst)] == [None, False, True]
    words = order_in_words((best, second, worst))
    assert words.startswith("best 2.0000; second +0.0667 to the one before, standard error 0.0882, not told apart; ")
    assert words.endswith("worst +2.1333 to the one before, standard error 0.1453")


def test_other_windows_are_not_compared() -> None:
    assert perplexity_order({"one": taken(1.0, 2.0), "two": taken(1.1, 2.1, windows="b")}) == ()


@pytest.mark.parametrize("other", [taken(loss=2.0), taken(math.nan, 1.0, loss=None).model_copy(update={"loss": None})])
def test_without_windows_or_a_finite_loss_there_is_no_place(other: PerplexityResult) -> None:
    assert perplexity_order({"one": taken(1.0, 2.0), "two": other}) == ()
    assert [place.name for place in perplexity_order({"a": taken(1.0, 2.0), "b": other, "c": taken(0.5, 2.0)})] == [
        "c",
        "a",
    ]


def test_one_window_has_no_error() -> None:
    _, second = perplexity_order({"a": taken(1.0), "b": taken(2.0)})
    assert second.as_data()["told_apart"] is None and "error" not in order_in_words((second,))
