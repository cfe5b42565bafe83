"""Searches that do nothing, and what is said of several workers."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.parallel import PARTS, draw, holds, overhead
from benchmarks.parallel_searches import real_search

GOOD: dict[str, Any] = {
    "speedup": 1.9,
    "trials_per_hour": {"processes:1": 100.0, "processes:2": 190.0, "ray": 150.0},
    "overhead": {
        "trials": 100,
        "mean_ms": 40.0,
        "by_tenth": {"ms": [40.0] * PARTS, "cpu_ms": [30.0] * PARTS},
        "memory_mb": [700.0] * PARTS,
    },
}


def test_what_holds(tmp_path: Path) -> None:
    assert holds(GOOD)
    assert not holds({**GOOD, "speedup": 1.7})
    assert not holds({**GOOD, "overhead": {**GOOD["overhead"], "mean_ms": 51.0}})
    assert not holds({**GOOD, "overhead": {**GOOD["overhead"], "memory_mb": [*[700.0] * (PARTS - 1), 740.0]}})
    draw(GOOD, tmp_path / "parallel.png")
    assert (tmp_path / "parallel.png").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_searches_that_are_timed(tmp_path: Path) -> None:
    from rich.progress import Progress

    with Progress(disable=True) as bars:
        found = overhead(tmp_path, 12, bars)
    assert found["trials"] == 12 and len(found["by_tenth"]["ms"]) == PARTS and found["mean_ms"] > 0
    assert 0 < found["memory_mb"][0] <= found["memory_mb"][-1] * 1.5
    told = list[int]()
    rate = real_search(tmp_path, "home-two", 3, 2, told.append, workers="processes:2", parallel=2)
    assert told == [1, 2, 3] and rate > 0
