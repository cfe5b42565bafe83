"""The machine's clock is set to and fro under a real search: times and orders do not follow it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import libfaketime
import pytest

from graph.config import SearchConfig
from graph.session import SearchSession
from tests.fake_openai import FakeOpenAI
from tests.graph.test_replay import story

LIBRARY = Path(libfaketime.__file__).parent / "vendor/libfaketime/src/libfaketime.so.1"
ROOT = Path(__file__).parents[2]


def faked(clock: Path) -> dict[str, str]:
    """What makes a process take its time from the file `clock`, and its monotonic clock from the system."""
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def can_be_set(clock: Path) -> bool:
    """Whether the library is one for this system."""
    clock.write_text("+1000000\n")
    program = [sys.executable, "-c", "import time; print(time.time())"]
    done = subprocess.run(program, env={**os.environ, **faked(clock)}, capture_output=True, text=True, check=True)
    clock.write_text("+0\n")
    return float(done.stdout) - time.time() > 900_000


@pytest.mark.slow
def test_a_clock_that_is_set_to_and_fro(
    config_of: Callable[..., SearchConfig], survey_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape, plan, clock = tmp_path / "tape.jsonl", tmp_path / "plan.json", tmp_path / "clock"
    if not can_be_set(clock):
        pytest.skip("libfaketime has no library for this system")
    settings = {"trials": 4, "self_evolution": 2, "cache": survey_cache}
    with FakeOpenAI(seed=3, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        undisturbed = SearchSession.start(config_of(**settings, record=tape))
        undisturbed.run()
    # An hour by the clock, which jumps by days.
    budget = {"wall_clock_seconds": 3600.0}
    plan.write_text(config_of(**settings, budget=budget, replay=tape, home=tmp_path / "other").model_dump_json())
    done = subprocess.run(
        [sys.executable, "-m", "tests.graph.clock_jumps", str(plan), str(clock)],
        env={**os.environ, **faked(clock), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["seen"] == ["proposal", "trial", "evaluation"] and found["back_by"] > 500_000, "it did jump"
    assert found["story"] == json.loads(json.dumps(story(undisturbed)))
    assert found["trials"] == [0, 1, 2, 3] and found["in_order"]
    assert found["roots"] == ["search", "search"] and found["spans"][:2] == ["search", "survey"]
    assert found["spans"][-1] == "finish"
    measured = [*found["seconds"], *found["evaluations"], *found["calls"], found["wall_clock"]]
    assert all(0 <= seconds <= found["took"] for seconds in measured), measured
