"""Searches over several fidelities: who is promoted, what is paid for, and that one rung changes nothing."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import graph.drive
from graph.config import SearchConfig
from graph.events import EvaluationEvent, PromotionEvent
from graph.promotion import next_promotion
from graph.session import SearchSession
from memory.views import TrialView
from tests.fake_openai import FakeOpenAI
from tests.graph.test_several_at_once import SlowWorkers
from tools.errors import InputError
from tools.measurement import Measurement
from tools.requests import ReportProgress, TrialRequest
from tools.trial_folder import has_weights
from tools.workers import LocalWorkers

ConfigOf = Callable[..., SearchConfig]
LADDER = ("one_shot", "short_training", "long_training")
JUDGED: dict[str, Any] = {"llm_share": 0.0, "judge": "random", "trials": 8, "fidelities": LADDER, "reduction_factor": 2}


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    with FakeOpenAI(seed=3, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        yield server


def rung_losses(trials: list[TrialView], rung: int) -> dict[int, float | None]:
    return {
        trial.number: found.loss
        for trial in trials
        if len(trial.rungs) > rung and (found := trial.rungs[rung].measurement) is not None
    }


def history(session: SearchSession) -> list[tuple[Any, ...]]:
    """All that was decided and measured, without times."""
    return [
        (trial.number, trial.architecture.hash, rung.fidelity, rung.rank, rung.rivals, rung.measurement.loss)
        for trial in session.trials()
        for rung in trial.rungs
        if rung.measurement is not None
    ]


def test_the_best_of_each_rung_go_up_and_nothing_is_paid_twice(config_of: ConfigOf, survey_cache: Path) -> None:
    session = SearchSession.start(config_of(**JUDGED, cache=survey_cache))
    events = list(session.stream())
    trials = session.trials()
    assert len(trials) == 8 and len(rung_losses(trials, 0)) == 8
    promoted = [event for event in events if isinstance(event, PromotionEvent)]
    told = [event for event in events if isinstance(event, EvaluationEvent)]
    assert len(told) == 8 + len(promoted) == len(session._records.evaluations(session.run_id))
    assert str(promoted[0]).startswith(f"trial {promoted[0].trial} promoted from one-shot repair to short training: ")
    # In the end nobody is left who belongs above, by the rule itself.
    rungs = [rung_losses(trials, rung) for rung in range(3)]
    went = [{trial.number for trial in trials if len(trial.rungs) > rung + 1} for rung in range(3)]
    assert next_promotion(rungs, went, 2) is None and rungs[2]
    # Each rung trains for as long as it says.
    steps = [
        {len(rung.measurement.training_losses) for one in trials for rung in one.rungs[k : k + 1] if rung.measurement}
        for k in range(3)
    ]
    assert steps == [{2}, {4}, {6}], "two of the survey, then none, two or four"
    # The best is the best of the highest rung, also where a lower rung has a lower loss.
    best = session.best()
    assert best.fidelity == "long_training" and best.loss == min(loss for loss in rungs[2].values() if loss)
    assert session.record.result is not None and session.record.result["best"] == best.number
    home = Path(session.config.home) / "evaluations"
    assert has_weights(home / str(best.evaluation_key)) and not has_weights(home / str(best.rungs[0].evaluation_key))
    finished = next(str(event) for event in events if event.kind == "finished")
    assert f"best is trial {best.number} with loss {best.loss:.4f} after long training" in finished
    # Another search of the same home finds all of it in the records.
    again = SearchSession.start(config_of(**JUDGED, cache=survey_cache, name="again"))
    again.run()
    assert history(again) == history(session)
    assert all(rung.cached for trial in again.trials() for rung in trial.rungs)
    assert again.spent().evaluation_seconds == 0


def test_one_rung_is_the_search_that_it_was(config_of: ConfigOf, survey_cache: Path, endpoint: FakeOpenAI) -> None:
    """With one rung, no prompt, event or row speaks of fidelities."""
    session = SearchSession.start(config_of(cache=survey_cache, reduction_factor=2))
    events = [str(event) for event in session.stream()]
    assert all(trial.rungs == () and trial.ladder == () for trial in session.trials())
    assert session._records.promotions(session.run_id) == []
    said = " ".join([*events, *(message["content"] for call in session.calls() for message in call.messages)])
    assert " after short training" not in said and "promoted" not in said


def test_agents_are_told_at_which_fidelity(config_of: ConfigOf, survey_cache: Path, endpoint: FakeOpenAI) -> None:
    two = {"fidelities": LADDER[:2], "reduction_factor": 2, "trials": 7, "self_evolution": 3}
    session = SearchSession.start(config_of(**two, cache=survey_cache))
    session.run()
    trials = session.trials()
    measured = {
        f"{rung.measurement.loss:.4f}": f"after {'one-shot repair' if rung.rung == 0 else 'short training'}"
        for trial in trials
        for rung in trial.rungs
        if rung.measurement is not None and rung.measurement.loss is not None
    }
    first = {call.turn: call.messages for call in reversed(session.calls())}
    assert first, "agents were asked"
    seen = 0
    for messages in first.values():
        assert "Losses of different fidelities do not compare" in messages[0]["content"]
        for line in messages[1]["content"].splitlines():
            for loss, words in measured.items():
                if f"loss {loss}" in line:
                    assert words in line, line
                    seen += 1
    assert seen > 3
    # The current architecture moves on by what all have.
    parents = [trial.parent_number for trial in trials if trial.stage == "self_evolution"]
    low = {trial.number: trial.on_first_rung().loss for trial in trials}
    for number, parent in enumerate(parents[1:], 2):
        child, before = low[number - 1], low[parents[number - 2] or 0]
        assert child is not None and before is not None
        assert parent == (number - 1 if child <= before else parents[number - 2])


def test_a_budget_ends_at_a_promotion_and_more_goes_on_from_it(config_of: ConfigOf, survey_cache: Path) -> None:
    undisturbed = SearchSession.start(config_of(**JUDGED, cache=survey_cache, name="whole"))
    undisturbed.run()
    other = {**JUDGED, "cache": survey_cache, "home": str(Path(undisturbed.config.home).parent / "other")}
    session = SearchSession.start(config_of(**other, budget={"evaluation_seconds": 0.001}))
    with pytest.raises(InputError, match="budget"):
        session.run()
    session.close()
    more = SearchSession.resume(
        session.run_id, session.config.home, session.config.model_copy(update={"budget": config_of().budget})
    )
    more.run()
    assert history(more) == history(undisturbed)


class DearWorkers(LocalWorkers):
    """Work as this process does it, but a second is said to have been spent on the first rung, 20 above."""

    async def trial(
        self, request: TrialRequest, report: ReportProgress, most_seconds: float | None = None
    ) -> Measurement:
        seconds = {"one_shot": 1.0, "short_training": 20.0}[request.fidelity]
        assert most_seconds is None or most_seconds >= seconds
        found = await super().trial(request, report, most_seconds)
        return found.model_copy(update={"seconds": seconds})


@pytest.mark.parametrize("parallel", [1, 2])
def test_what_is_cheap_goes_on_where_a_promotion_has_no_room(
    config_of: ConfigOf, survey_cache: Path, monkeypatch: pytest.MonkeyPatch, parallel: int
) -> None:
    """60 s: two promotions leave too few for another one, and enough for all designs."""
    monkeypatch.setattr(graph.drive, "workers_of", lambda *_: DearWorkers())
    two = {**JUDGED, "fidelities": LADDER[:2], "parallel": parallel}
    session = SearchSession.start(config_of(**two, cache=survey_cache, budget={"evaluation_seconds": 60}))
    session.run()
    trials = session.trials()
    assert [len(rung_losses(trials, rung)) for rung in range(2)] == [8, 2]
    assert session.spent().evaluation_seconds == 48
    assert session.record.result is not None and session.record.result["budget_reached"] == "evaluation_seconds"
    assert "an evaluation takes about 20 s" in session.record.message
    # With more all is made up for.
    more = SearchSession.resume(
        session.run_id, session.config.home, session.config.model_copy(update={"budget": config_of().budget})
    )
    more.run()
    trials = more.trials()
    rungs = [rung_losses(trials, rung) for rung in range(2)]
    went = [{trial.number for trial in trials if len(trial.rungs) > rung + 1} for rung in range(2)]
    assert next_promotion(rungs, went, 2) is None and len(rungs[1]) > 2 and len(trials) == 8
    assert not any(trial.waits_for for trial in trials)


def test_several_at_once_promote_as_well(config_of: ConfigOf, survey_cache: Path) -> None:
    session = SearchSession.start(config_of(**JUDGED, cache=survey_cache, parallel=3))
    session.run()
    trials = session.trials()
    assert [trial.number for trial in trials] == [*range(8)]
    rungs = [rung_losses(trials, rung) for rung in range(3)]
    went = [{trial.number for trial in trials if len(trial.rungs) > rung + 1} for rung in range(3)]
    assert next_promotion(rungs, went, 2) is None and rungs[2]
    assert not any(trial.waits_for for trial in trials)


def test_a_ladder_that_nobody_can_climb_is_refused(config_of: ConfigOf) -> None:
    with pytest.raises(ValidationError, match="set trials to 16 or more"):
        config_of(fidelities=LADDER, trials=15)
    assert config_of(fidelities=LADDER, trials=16).ladder.steps("long_training") == 8
    with pytest.raises(ValidationError, match="more steps"):
        config_of(fidelities=LADDER, trials=16, long_training_steps=2)


def test_a_replay_promotes_as_it_was_recorded(
    config_of: ConfigOf, survey_cache: Path, endpoint: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With several under way, what ends first decides who goes up: that is on the cassette too."""
    tape = tmp_path / "tape.jsonl"
    settings = {"fidelities": LADDER[:2], "reduction_factor": 2, "trials": 6, "parallel": 2, "cache": survey_cache}
    monkeypatch.setattr(graph.drive, "workers_of", lambda *_: SlowWorkers(slow=1, others=3))
    recorded = SearchSession.start(config_of(**settings, record=tape))
    order = [(event.trial, event.rung) for event in recorded.stream() if event.kind == "evaluation"]
    assert order[:2] != [(0, 0), (1, 0)] and any(rung for _, rung in order)
    assert '"rungs":[' in tape.read_text().replace(" ", "")
    monkeypatch.undo()
    replayed = SearchSession.start(config_of(**settings, replay=tape, home=tmp_path / "other home"))
    again = [(event.trial, event.rung) for event in replayed.stream() if event.kind == "evaluation"]
    assert again == order and history(replayed) == history(recorded)


# Two minutes on a quiet core.
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_again_and_again_nothing_is_paid_or_promoted_twice(
    config_of: ConfigOf, survey_cache: Path, tmp_path: Path
) -> None:
    undisturbed = SearchSession.start(config_of(**JUDGED, cache=survey_cache))
    undisturbed.run()
    # In a home of its own, where nothing was measured yet.
    disturbed, plan = config_of(**JUDGED, cache=survey_cache, home=tmp_path / "other home"), tmp_path / "plan.json"
    plan.write_text(disturbed.model_dump_json())
    done = subprocess.run(
        [sys.executable, "-m", "tests.graph.dying", str(plan), "5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert sum(document["kills"].values()) >= 40, document
    survivor = SearchSession.open(document["run"], disturbed.home)
    assert survivor.record.status == "finished" and history(survivor) == history(undisturbed)
    rungs = [rung for trial in survivor.trials() for rung in trial.rungs]
    assert len(survivor._records.evaluations(document["run"])) == len(rungs)
    assert not any(rung.cached for rung in rungs), "what was paid for before a kill is its own"


def test_a_space_without_further_designs_is_climbed_to_its_end(config_of: ConfigOf, survey_cache: Path) -> None:
    """All layers alike, in steps so wide that there are few designs: they go up all the same."""
    narrow = {
        **JUDGED,
        "trials": 40,
        "space": {"ffn_multiple": 48, "hidden_multiple": 32, "uniform": True},
        "min_parameters": 30_000,
    }
    for parallel in (1, 2):
        session = SearchSession.start(config_of(**narrow, cache=survey_cache, parallel=parallel, name=str(parallel)))
        *_, last = session.stream()
        trials = session.trials()
        assert 4 <= len(trials) < 40 and "there is no further design" in str(last)
        rungs = [rung_losses(trials, rung) for rung in range(3)]
        went = [{trial.number for trial in trials if len(trial.rungs) > rung + 1} for rung in range(3)]
        assert next_promotion(rungs, went, 2) is None and rungs[2]


def test_a_branch_goes_on_with_the_promotions_that_there_were(config_of: ConfigOf, survey_cache: Path) -> None:
    session = SearchSession.start(config_of(**JUDGED, cache=survey_cache))
    session.run()
    branch = session.branch(4, config_of(**JUDGED, cache=survey_cache, search_seed=7))
    branch.run()
    copied = [one for one in branch.trials() if one.number <= 4]
    # What had been promoted until then was so among the same rivals, and is not paid for again.
    before = {(one.number, rung.rung): rung for one in session.trials() for rung in one.rungs}
    early = [(one.number, rung) for one in copied for rung in one.rungs if rung.rung == 0 or (rung.rivals or 9) <= 4]
    assert len(early) > 5 and all(rung.cached for _, rung in early)
    for number, rung in early:
        assert rung.model_copy(update={"cached": False}) == before[number, rung.rung]
    trials = branch.trials()
    assert len(trials) == 8 and [one.identity for one in trials[:5]] == [one.identity for one in session.trials()[:5]]
    assert {one.identity for one in trials[5:]} != {one.identity for one in session.trials()[5:]}
    rungs = [rung_losses(trials, rung) for rung in range(3)]
    went = [{trial.number for trial in trials if len(trial.rungs) > rung + 1} for rung in range(3)]
    assert next_promotion(rungs, went, 2) is None and rungs[2]
    with pytest.raises(InputError, match="fidelities"):
        session.branch(4, config_of(cache=survey_cache, trials=8, llm_share=0.0))


def test_a_promotion_asks_nobody_again(config_of: ConfigOf, survey_cache: Path) -> None:
    """With `approve` a design is decided on once, before it is paid for the first time."""
    session = SearchSession.start(config_of(**{**JUDGED, "trials": 4}, cache=survey_cache, approve=True))
    asked = []
    for event in session.stream():
        if event.kind == "approval" and not event.decision:
            asked.append(event.trial)
            session.decide(event.trial, "accept")
    assert asked == [1, 2, 3]
    assert session.best().rung == 2
