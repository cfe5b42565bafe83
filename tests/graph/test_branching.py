"""A branch goes on from a trial under other prompts or settings; nothing is paid twice, the run itself stays."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from graph.config import SearchConfig
from graph.session import SearchSession
from penjing.commands import app
from tests.fake_openai import FakeOpenAI
from tests.tiny_search import both_places
from tools.errors import InputError

ConfigOf = Callable[..., SearchConfig]
places = both_places


def everything(session: SearchSession) -> list[Any]:
    rows = [*session.proposals(), *session.calls(), *session.trials(), *session.spans(), session.record]
    return [row.model_dump(mode="json") for row in rows]


def assert_compared(session: SearchSession, branch: SearchSession) -> None:
    """Only what each did after trial 2 counts, against figures from their trials."""
    result = CliRunner().invoke(app, ["compare", session.run_id, branch.run_id, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [one["trials"] for one in found["runs"]] == [2, 3] and found["equal_trials"] == 2
    losses = [[trial.loss for trial in one.trials() if trial.number > 2] for one in (session, branch)]
    assert [one["best"]["value"] for one in found["runs"]] == [min(own) for own in losses]
    expected = min(losses[1][:2]) - min(losses[0])
    assert found["differences"][0]["at_equal_trials"] == pytest.approx(expected)
    own = [call for call in session.calls() if call.turn > 2]
    assert found["runs"][0]["tokens"] == sum(call.input_tokens + call.output_tokens for call in own)
    versions = [one["prompts"]["strategies"] for one in found["runs"]]
    assert len(versions[0]) == len(versions[1]) == 1 and versions[0] != versions[1]
    assert found["runs"][1]["branch_of"] == session.run_id and found["runs"][1]["branch_at"] == 2
    shown = CliRunner().invoke(app, ["compare", session.run_id, branch.run_id])
    assert f"{expected:+.4f} after 2 trials each" in shown.stdout
    for wrong, words in (
        ((session.run_id, "smollm2-135m"), "is a run, but smollm2-135m not"),
        ((session.run_id, "latest", "--paper"), "without options"),
        ((session.run_id, session.run_id), "needs two runs"),
    ):
        result = CliRunner().invoke(app, ["compare", *wrong])
        assert result.exit_code == 2 and words in result.stderr and "Traceback" not in result.stderr


def test_a_branch_goes_on_from_a_trial(
    config_of: ConfigOf, survey_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    with FakeOpenAI(seed=3, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        session = SearchSession.start(config_of(trials=5, self_evolution=4, cache=survey_cache))
        monkeypatch.setenv("PENJING_HOME", str(session.config.home))
        with pytest.raises(InputError, match="has no trial 2"):
            session.branch(2)
        session.run()
        before, asked = everything(session), len(server.requests)

        def branched(*arguments: str) -> Any:
            return CliRunner().invoke(app, ["branch", session.run_id, "--at", "2", *arguments])

        for wrong, words in (("recipe.training_steps=3", "recipe cannot change"), ("trials=two", "trials")):
            result = branched("--set", wrong)
            assert result.exit_code == 2 and words in result.stderr and "Traceback" not in result.stderr
        text = (Path(__file__).parents[2] / "prompts" / "strategies.md").read_text()
        mine.mkdir()
        (mine / "strategies.md").write_text(text.replace("# Answer", "# Answer\nBe bold."))
        result = branched("--prompt-dir", str(mine), "--set", "trials=6", "--json")
        assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    branch = SearchSession.open(document["run"])
    assert everything(session) == before, "the run itself stays as it is"
    assert branch.record.name == f"branch of {session.run_id} at 2" and branch.record.status == "finished"
    assert len(branch.trials()) == 6

    shared = [trial.architecture.hash for trial in session.trials()[:3]]
    assert [trial.architecture.hash for trial in branch.trials()[:3]] == shared
    assert [trial.cached for trial in branch.trials()[:3]] == [True] * 3
    old = {call.id for call in session.calls()}
    calls = branch.calls()
    assert not old & {call.id for call in calls}
    copied = [call for call in calls if call.turn <= 2]
    assert [call.answer for call in copied] == [call.answer for call in session.calls() if call.turn <= 2]
    assert len(server.requests) - asked == len(calls) - len(copied), "what was asked before is not asked again"
    strategies = [call for call in calls if call.schema_name == "StrategiesAnswer" and len(call.messages) == 2]
    assert ["Be bold." in call.messages[-1]["content"] for call in strategies] == [call.turn > 2 for call in strategies]
    assert any(call.turn > 2 for call in strategies)

    assert branch.spent().llm_tokens == sum(call.input_tokens + call.output_tokens for call in calls if call.turn > 2)
    assert branch.shared().llm_tokens == sum(call.input_tokens + call.output_tokens for call in copied)
    assert branch.spent().llm_tokens + branch.shared().llm_tokens == sum(
        c.input_tokens + c.output_tokens for c in calls
    )
    assert [trial.number for trial in branch.shared_trials()] == [0, 1, 2]
    assert session.shared() == replace(session.shared(), llm_tokens=0) and session.shared_trials() == []
    assert document["budget"]["trials"] == {"spent": 6, "cap": 6, "shared": 3}
    assert_compared(session, branch)

    with pytest.raises(InputError, match=f"penjing branch {session.run_id}"):
        SearchSession.resume(session.run_id, session.config.home, session.config.model_copy(update={"trials": 9}))
