"""The overhead of pruning: its summary, and the interleaved steps on a tiny model."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import paired_steps, pruning_overhead
from benchmarks.growing import Job, Scale
from benchmarks.paired_steps import (
    EVERY_STEP,
    SHAPES,
    SPARSE,
    N,
    Pair,
    bench_for,
    pairs_of,
    quartiles,
    speeds_of,
)
from benchmarks.pruning_overhead import (
    PRETRAINING,
    SALIENCIES,
    Setting,
    draw,
    measure,
    memory_in_fresh_process,
    rises,
    settings_to_measure,
    summary,
)
from tools.pruning import input_statistics, sampling
from tools.settings import Recipe, WidthSettings

SCALE = Scale(tokens=384, batch=1, micro_batch=1, block=16, validation_tokens=64)
RECIPE = Recipe(warmup_steps=2, batch_size=1, micro_batch_size=1, precision="float32")


def test_a_summary_is_of_paired_ratios() -> None:
    pairs = [Pair(1.0, 1.0, 0.0), Pair(2.2, 2.0, 0.2), Pair(4.0, 2.0, 2.0)]
    row = summary(pairs, step_tokens=100, drop_share=0.25)
    assert row["ratio"] == 1.2 and row["ratio_quartiles"] == [1.1, 1.2, 2.1]
    assert row["ratio_without_events"] == 1.1 and row["event_seconds"] == 1.1 and row["events"] == 2
    assert row["ratio_of_sums"] == round(9.4 / 5, 4) and row["whole_training"] == 1.05
    assert row["dense_tokens_per_second"] == 50.0
    assert quartiles([3.0]) == [3.0, 3.0, 3.0]


def test_speed_must_rise_at_every_shape() -> None:
    assert rises([1.0, 2.0, 3.0]) and not rises([1.0, 1.0, 3.0]) and not rises([1.0, 3.0, 2.0])


def test_the_main_rows_come_first_and_no_recording_twice() -> None:
    settings = settings_to_measure(PRETRAINING)
    assert settings[:3] == [
        Setting(PRETRAINING, EVERY_STEP, True),
        Setting(PRETRAINING, SPARSE, True),
        Setting(PRETRAINING, EVERY_STEP, False),
    ]
    first_steps = [setting.recipe for setting in settings if not setting.known]
    assert len({recipe.model_dump_json() for recipe in first_steps}) == len(first_steps)
    recorded = {(recipe.saliency, recipe.moment_tokens) for recipe in first_steps}
    assert {(name, tokens) for name in SALIENCIES for tokens in (None, 256)} == recorded


def test_a_main_row_reads_a_quarter_of_every_fourth_step(
    job_for: Callable[[str, Scale], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paired_steps, "EVENTS", 10)
    source, blocks = pruning_overhead._material(job_for("pruning_overhead", SCALE))
    read: list[tuple[int, int]] = []

    def noted(tokens: int, limit: int | None, sparsely: bool) -> int:
        stride = sampling.token_stride(tokens, limit, sparsely)
        read.append((tokens, stride))
        return stride

    monkeypatch.setattr(input_statistics, "token_stride", noted)
    known = bench_for(source, blocks, RECIPE, EVERY_STEP, known=True)
    assert known.trainer.step == 0 and read[0] == (16, 1)
    read.clear()
    steps = 0
    while len(read) == 0:
        known.aware_step()
        steps += 1
    assert steps <= sampling.EVERY_STEPS and set(read) == {(16, sampling.EVERY_TOKENS)}
    read.clear()
    for _ in range(sampling.EVERY_STEPS - 1):
        known.aware_step()
    assert read == []


def test_events_come_after_every_pair_or_every_ninth(
    job_for: Callable[[str, Scale], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A tiny model has too few groups for 250 events.
    monkeypatch.setattr(paired_steps, "EVENTS", 10)
    source, blocks = pruning_overhead._material(job_for("pruning_overhead", SCALE))
    dense = bench_for(source, blocks, RECIPE, EVERY_STEP)
    pairs = pairs_of(dense, 3, lambda progress: None)
    assert all(pair.event > 0 for pair in pairs) and dense.trainer.step == 10
    assert [event.step for event in dense.growth.events] == [2, 4, 6, 8, 10]
    sparse = bench_for(source, blocks, RECIPE, SPARSE)
    pairs_of(sparse, 2 * N, lambda progress: None)
    first, second = sparse.growth.events[:2]
    assert first.step == 2 and second.step % (2 * N) == 2
    assert len([value for value in first.removed.values() if value]) == 1


def test_shapes_shrink_to_their_shares(job_for: Callable[[str, Scale], Job]) -> None:
    source, blocks = pruning_overhead._material(job_for("pruning_overhead", SCALE))
    widths = WidthSettings(ffn_multiple=1, hidden_multiple=1)
    found = list(speeds_of(source, blocks, RECIPE, widths, 2, lambda progress: None))
    shares = [shape["parameters"] / source.architecture.parameters for shape in found]
    assert len(found) == len(SHAPES) and shares == pytest.approx(SHAPES, abs=0.12)
    assert rises([-share for share in shares]) and all(shape["tokens_per_second"] > 0 for shape in found)


def test_all_figures_of_a_tiny_model(job_for: Callable[[str, Scale], Job], tmp_path: Path) -> None:
    figures, holds = measure(job_for("pruning_overhead", SCALE), {"dense": 1000.0, "aware": 1200.0})
    assert [row["events_come"] for row in figures["rows"][:2]] == [EVERY_STEP, SPARSE]
    assert holds == (all(row["ratio"] <= 1.05 for row in figures["rows"][:2]) and figures["faster_as_it_shrinks"])
    assert figures["memory_ratio"] == 1.2 and figures["tokens"] == 384
    draw(figures, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_memory_is_that_of_a_fresh_process(job_for: Callable[[str, Scale], Job]) -> None:
    # torch alone takes more than 100 MB.
    assert 100 < memory_in_fresh_process(job_for("pruning_overhead", SCALE), "aware") < 10_000
