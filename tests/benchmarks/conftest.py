"""Jobs of the benchmarks on a tiny real source; and its corpus."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.growing import Job, Scale
from tests.tiny_search import corpus, timed_briefly

__all__ = ["corpus", "timed_briefly"]


@pytest.fixture
def job_for(sources: dict[str, Path], corpus: Path, tmp_path: Path) -> Callable[[str, Scale], Job]:
    """A quick job whose cache is this test's own folder."""

    def make(name: str, scale: Scale) -> Job:
        source = str(sources["llama-tied"])
        return Job(name=name, quick=True, source=source, corpus=str(corpus), scale=scale, cache=tmp_path / "cache")

    return make
