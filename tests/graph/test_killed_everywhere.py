"""kill -9 before, in and after the nodes of a whole search: the records in the end are as if nothing had happened."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from graph.config import SearchConfig
from graph.session import SearchSession
from tests.fake_openai import FakeOpenAI
from tests.graph.test_replay import story


# Three minutes on a quiet core.
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_trials_and_a_hundred_kills(
    config_of: Callable[..., SearchConfig], survey_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape, plan = tmp_path / "tape.jsonl", tmp_path / "plan.json"
    settings = {"trials": 20, "self_evolution": 10, "cache": survey_cache}
    with FakeOpenAI(seed=3, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        undisturbed = SearchSession.start(config_of(**settings, record=tape))
        undisturbed.run()
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    # In a home of its own, where nothing was measured yet.
    disturbed = config_of(**settings, replay=tape, home=tmp_path / "other home")
    plan.write_text(disturbed.model_dump_json())
    done = subprocess.run(
        [sys.executable, "-m", "tests.graph.dying", str(plan), "5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    kills = document["kills"]
    assert sum(kills.values()) >= 100 and min(kills[place] for place in ("before", "middle", "after")) >= 30, kills
    survivor = SearchSession.open(document["run"], disturbed.home)
    assert survivor.record.status == "finished"
    assert story(survivor) == story(undisturbed)
    assert [trial.number for trial in survivor.trials()] == list(range(20))
