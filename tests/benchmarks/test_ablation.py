"""The ablation: one change a variant, the spread of seeds, the verdict, and two variants of a tiny model."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.ablation import (
    BASE,
    KEPT,
    SCALES,
    base_recipe,
    better_than_base,
    chosen,
    differences_to,
    draw,
    drop_steps_of,
    mean,
    measure,
    seed_spread,
    settings_of,
    variants_for,
)
from benchmarks.growing import Job, Scale, planned


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("quick", [True, False])
def test_each_variant_is_another_legal_request(device: str, quick: bool, job_for: Callable[[str, Scale], Job]) -> None:
    scale = SCALES[device, quick]  # type: ignore[index]
    job, variants = job_for("ablation", scale), variants_for(scale)
    requests = [planned(job, target_parameters=60_000, **settings_of(variant, scale)) for variant in variants]
    assert variants[0].name == BASE and all(variant.request or variant.recipe for variant in variants[1:])
    assert len({request.output for request in requests}) == len({variant.name for variant in variants}) == len(variants)
    assert {request.tokens for request in requests} == {scale.tokens}
    for request in requests:
        events = request.drops or drop_steps_of(scale)
        assert request.steps > request.recipe.warmup_steps and 1 <= events <= drop_steps_of(scale)
    quick_names = {variant.name for variant in variants if variant.in_quick}
    assert {"no second-order repair", "one event", "uniform layers", "FFN only"} < quick_names and len(quick_names) == 7
    assert {variant.name for variant in variants if variant.is_control} == {
        f"saliency {name}" for name in ("magnitude", "activation", "random")
    }


def test_the_base_changes_only_sizes_and_warm_up() -> None:
    scale = SCALES["cpu", True]
    assert base_recipe(scale).warmup_steps == 3 and drop_steps_of(scale) == 3
    assert round(KEPT * 134_515_008) == 114_600_000


def test_differences_are_to_the_same_seed() -> None:
    assert differences_to([3.0, 4.0], [3.5, 3.75]) == [0.5, -0.25]
    assert differences_to([3.0, None], [None, 3.0]) == [None, None]
    assert mean([1.0, 2.0]) == 1.5 and mean([1.0, None]) is None and mean([]) is None


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=4), st.floats(-5, 5))
def test_the_spread_is_that_of_a_row_and_does_not_see_its_mean(row: list[float], shift: float) -> None:
    spread = seed_spread([row, [value + shift for value in row]])
    assert spread == pytest.approx(max(row) - min(row), abs=1e-9)
    assert seed_spread([row[:1]]) == 0.0 and seed_spread([[*row, None]]) == 0.0


def test_only_what_is_better_by_more_than_the_spread_beats_the_base() -> None:
    rows = [{"name": str(value), "difference": value} for value in (None, 0.2, -0.1, -0.11)]
    assert better_than_base(rows, 0.1) == ["-0.11"] and better_than_base(rows, 0.2) == []


def test_variants_are_chosen_by_name() -> None:
    variants = variants_for(SCALES["cpu", False])
    assert chosen(variants, None, quick=False) == variants
    assert [one.name for one in chosen(variants, None, quick=True)] == [one.name for one in variants if one.in_quick]
    named = chosen(variants, ["uniform layers", "one event"], quick=True)
    assert [one.name for one in named] == [BASE, "one event", "uniform layers"]
    with pytest.raises(ValueError, match=r"there is no variant 'one', only .*one event"):
        chosen(variants, ["one"], quick=False)


@pytest.mark.slow
def test_rows_of_a_tiny_model(job_for: Callable[[str, Scale], Job], tmp_path: Path) -> None:
    scale = Scale(tokens=512, batch=2, micro_batch=1, block=32, validation_tokens=64)
    variants = [variant for variant in variants_for(scale) if variant.name in (BASE, "one event")]
    figures, holds = measure(job_for("ablation", scale), variants, (0, 1))
    base, one = figures["rows"]
    assert base["difference"] == 0.0 and (base["name"], one["name"]) == (BASE, "one event")
    assert all(size <= figures["target_parameters"] for row in figures["rows"] for size in row["parameters"])
    assert one["events"] == [1, 1] and {tokens for row in figures["rows"] for tokens in row["tokens"]} == {512}
    assert one["difference"] == pytest.approx(sum(one["differences"]) / 2, abs=1e-4)
    assert figures["spread_of_seeds"] == pytest.approx(max(one["differences"]) - min(one["differences"]), abs=1e-4)
    assert holds == (not figures["beaten_by"])
    draw(figures, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
