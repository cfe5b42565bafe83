"""Growing in both precisions on a tiny model, and the figures that are made of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.growing import Job, Scale
from benchmarks.precision import draw, end_of, measure


def test_the_end_is_the_last_tenth_or_eight_steps() -> None:
    assert end_of([9.0] * 90 + [1.0] * 5 + [2.0] * 5) == pytest.approx(1.5)
    assert end_of([9.0] * 12 + [4.0] * 8) == 4.0


def test_both_runs_see_the_same_batches_and_are_compared(job_for: Callable[[str, Scale], Job], tmp_path: Path) -> None:
    job = job_for("precision", Scale(tokens=640, batch=2, micro_batch=1, block=32, validation_tokens=256))
    figures, holds = measure(job, kept=0.8, small_corpus=job.corpus)
    exact, rounded = figures["runs"]["float32"], figures["runs"]["bfloat16"]
    assert len(exact["losses"]) == len(rounded["losses"]) == job.scale.tokens // job.scale.step_tokens
    small = figures["small_steps"]
    nearest, stochastic = (small["runs"][name]["losses"] for name in ("nearest", "bfloat16"))
    assert nearest != stochastic and small["nearest_less_float32"] != small["bfloat16_less_float32"]
    assert small["tokens"] == 24 * 32 and small["micro_batch_size"] == small["batch_size"] == 1
    assert all(len(run["losses"]) == 24 for run in small["runs"].values())
    apart = figures["bfloat16_less_float32"]
    # One number format is not the other, and the first batch is the same for both.
    assert 0 < apart["largest_of_a_step"] < 0.1 and abs(exact["losses"][0] - rounded["losses"][0]) < 0.01
    assert apart["validation_error"] > 0
    for run in (exact, rounded):
        assert abs(run["as_bfloat16"]["stochastic"] - run["loss"]) < 0.01, "as the weights are"
        assert run["as_bfloat16"]["nearest"] != run["as_bfloat16"]["stochastic"]
    both = (apart, small["bfloat16_less_float32"])
    assert holds == all(abs(pair[name]) <= 0.01 for pair in both for name in ("end", "validation"))
    draw(figures, tmp_path / "precision.png")
    assert (tmp_path / "precision.png").stat().st_size > 1000
