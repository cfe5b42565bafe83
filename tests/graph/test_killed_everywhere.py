"""kill -9 before, in and after the nodes of a whole search: the records in the end are as if nothing had happened."""

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graph.config import SearchConfig
from graph.session import SearchSession
from tests.fake_openai import PROSE, TRUNCATED, Calls, FakeOpenAI, Item
from tests.graph.test_replay import story


class BadLLM:
    """Half of its designs are no JSON, and of the tools that it is offered it calls more than every other one."""

    def __init__(self) -> None:
        self._chance = random.Random(1)

    def __call__(self, body: dict[str, Any]) -> Item | None:
        if body.get("tools") and self._chance.random() < 0.6:
            channels = self._chance.choice([24, 32, 40, 100_000])
            span = {"first_layer": 0, "last_layer": 2, "num_key_value_heads": 4, "intermediate_size": channels}
            design = {"hidden_size": self._chance.choice([32, 40, 48]), "spans": [span]}
            name = self._chance.choice(["architecture_cost", "forecast_loss", "train_and_evaluate", "nearest_designs"])
            return Calls(((name, json.dumps({"design": design})),))
        if "spans" in str(body.get("response_format")) and self._chance.random() < 0.5:
            return self._chance.choice([PROSE, TRUNCATED])
        return None


EVERYTHING: dict[str, Any] = {
    "fidelities": ("one_shot", "short_training"),
    "reduction_factor": 2,
    "tool_calls": 2,
    "proposals_per_turn": 2,
    "accept": "annealed",
    "show_picture": True,
}


# Three minutes each on a quiet core.
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("llm", "settings", "fewest"),
    [(None, {"trials": 20, "self_evolution": 10}, 100), (BadLLM, {"trials": 8, "self_evolution": 3, **EVERYTHING}, 50)],
    ids=["a hundred kills", "tools, rungs and bad answers"],
)
def test_a_search_that_is_killed_everywhere(
    config_of: Callable[..., SearchConfig],
    survey_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    llm: Callable[[], Callable[[dict[str, Any]], Item | None]] | None,
    settings: dict[str, Any],
    fewest: int,
) -> None:
    tape, plan = tmp_path / "tape.jsonl", tmp_path / "plan.json"
    settings = {**settings, "cache": survey_cache}
    with FakeOpenAI(llm() if llm else (), seed=3, models=("fake",)) as server:
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
    assert sum(kills.values()) >= fewest, kills
    assert min(kills[place] for place in ("before", "middle", "after")) >= 0.3 * fewest, kills
    survivor = SearchSession.open(document["run"], disturbed.home)
    assert survivor.record.status == "finished"
    assert story(survivor) == story(undisturbed)
    assert [trial.number for trial in survivor.trials()] == list(range(settings["trials"]))


# A minute and a half on a quiet core.
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_at_once_and_many_kills(
    config_of: Callable[..., SearchConfig], survey_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two under way the order of results is the clock's, so that another course may be taken after a kill.

    What holds all the same: each result that was told stays as it was told, each evaluation is paid for once, no
    answer that was recorded is asked for again, and the search comes to as many trials as it was asked for.
    """
    plan = tmp_path / "plan.json"
    config = config_of(trials=5, self_evolution=2, parallel=2, cache=survey_cache)
    plan.write_text(config.model_dump_json())
    with FakeOpenAI(seed=3, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        done = subprocess.run(
            [sys.executable, "-m", "tests.graph.dying", str(plan), "7"], capture_output=True, text=True, check=False
        )
        asked = Counter(words_of(request.body["messages"]) for request in server.requests)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    kills = document["kills"]
    assert sum(kills.values()) >= 20 and min(kills[place] for place in ("before", "middle", "after")) >= 5, kills
    survivor = SearchSession.open(document["run"], config.home)
    trials = survivor.trials()
    assert survivor.record.status == "finished" and [trial.number for trial in trials] == list(range(5))
    assert all(trial.loss is not None and not trial.cached for trial in trials)
    # Nothing that was told is lost or another one now.
    told = [json.loads(line) for line in plan.with_suffix(".told").read_text().splitlines()]
    assert len({one["trial"] for one in told}) > 1, "a life may end before it can say what it wrote down"
    for one in told:
        trial = trials[one["trial"]]
        assert (trial.evaluation_key, trial.loss) == (one["key"], one["loss"]), one
    # Nothing is paid for twice: one evaluation for each trial, and each recorded answer was asked for once.
    evaluations = survivor._records.evaluations(document["run"])
    assert sorted(one.key for one in evaluations) == sorted(str(trial.evaluation_key) for trial in trials)
    answered = Counter(words_of(call.messages) for call in survivor.calls())
    assert answered.total() >= 3 and set(answered.values()) == {1}
    # An answer can be lost on its way into the records, at most one at a death in that moment.
    assert answered <= asked and (asked - answered).total() <= sum(kills.values())


def words_of(messages: list[dict[str, Any]]) -> tuple[tuple[str, str], ...]:
    return tuple((message["role"], message["content"]) for message in messages)
