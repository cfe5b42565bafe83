"""Steps with and without keeping freed memory on a tiny model, and the figures that are made of them."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.freed_memory import KINDS, draw, measure
from benchmarks.growing import Bars, Job, Scale


def test_both_kinds_take_the_same_steps(job_for: Callable[[str, Scale], Job], tmp_path: Path) -> None:
    job = job_for("freed_memory", Scale(tokens=2 * 4 * 64, batch=2, micro_batch=1, block=32))
    with Bars(2) as bars:
        figures, holds = measure(job, bars)
    assert figures["same_losses"] and holds == (figures["ratio"] < 1)
    assert {kind: len(figures["seconds"][kind]) for kind in KINDS} == dict.fromkeys(KINDS, 4)
    draw(figures, tmp_path / "freed.png")
    assert (tmp_path / "freed.png").stat().st_size > 1000
