"""The user's words for the agents: told from the next turn on, kept, and on the cassette."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from graph.config import SearchConfig
from graph.guidance import LONGEST
from graph.session import SearchSession
from penjing.commands import app
from tests.fake_openai import FakeOpenAI

ConfigOf = Callable[..., SearchConfig]
SECTION = "# Guidance from the user\n"


def asked(session: SearchSession) -> list[str]:
    """The first question of each turn of the agents."""
    first = ("StrategiesAnswer", "InspirationAnswer")
    calls = [call for call in session.calls() if call.schema_name in first and len(call.messages) == 2]
    return [str(call.messages[1]["content"]) for call in calls]


def test_words_reach_the_agents_while_they_search(
    config_of: ConfigOf, survey_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = tmp_path / "tape.jsonl"

    def guide(*text: str) -> str:
        result = CliRunner().invoke(app, ["prompts", "guidance", "latest", *text])
        assert result.exit_code == 0, result.output
        return result.stdout

    asking, guided = threading.Event(), threading.Event()

    def answer(_: dict[str, Any]) -> None:
        """The first turn waits for its user, so that the search does not run ahead."""
        asking.set()
        guided.wait(60)

    with FakeOpenAI(script=answer, seed=3, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        session = SearchSession.start(config_of(trials=6, self_evolution=3, cache=survey_cache, record=tape))
        monkeypatch.setenv("PENJING_HOME", str(session.config.home))
        told: list[Any] = []
        for event in session.stream():
            if event.kind == "guidance":
                told.append(event)
            if event.kind != "evaluation":
                continue
            if event.trial == 0:
                assert asking.wait(60)
                assert guide("Keep {{ hidden_size }} as it is.") == guide()
                guided.set()
            if event.trial == 3:
                session.folder.guidance.write_text("x" * (LONGEST + 7))
            if event.trial == 4:
                session.folder.guidance.write_bytes(b"\xff\xfe\xfa")
    prompts = asked(session)
    assert len(prompts) == 5
    assert SECTION not in prompts[0]
    assert f"{SECTION}Keep {{{{ hidden_size }}}} as it is.\n" in prompts[1], "words, no template"
    assert f"{SECTION}{'x' * LONGEST}\n" in prompts[3] and f"{SECTION}{'x' * LONGEST}\n" in prompts[4]
    assert [event.problem.partition(" characters")[0].rpartition(" ")[2] for event in told if event.problem][:1] == [
        "4,007"
    ]
    assert "cannot be read" in told[-1].problem
    session.folder.guidance.unlink()

    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    again = SearchSession.start(config_of(trials=6, self_evolution=3, cache=survey_cache, replay=tape))
    again.run()
    assert asked(again) == prompts
