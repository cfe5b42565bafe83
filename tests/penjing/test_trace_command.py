"""`penjing trace`: the tree, the calls, the story of one design, while a run goes on and after it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from penjing.commands import app
from penjing.trace_lines import duration
from tests.fake_openai import FakeOpenAI

runner = CliRunner()
# Markup of rich and of terminals, as an answer may have it.
HOSTILE = "\x1b[2J[red]Keep more FFN channels[/red] in layers 0-1 \u202e and so on."


@pytest.fixture
def config_file(settings_of: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENJING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path / "cache"))
    plain = settings_of(tmp_path, trials=3)
    del plain["home"], plain["cache"]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


def traced(*arguments: str) -> str:
    result = runner.invoke(app, ["trace", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str) -> str:
    result = runner.invoke(app, ["trace", *arguments])
    assert result.exit_code == 2 and "Traceback" not in result.stderr, result.output
    return result.stderr


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0123, "12 ms"), (59.94, "59.9 s"), (59.96, "1 min 0 s"), (899.7, "15 min 0 s"), (135.2, "2 min 15 s")],
)
def test_a_minute_has_sixty_seconds(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_what_a_run_did(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(body: dict[str, Any]) -> Any:
        asked = body["response_format"]["json_schema"]["name"]
        # Longer than a look of the follower takes to come again, so that one falls into the call.
        time.sleep(0.7 if asked == "StrategiesAnswer" else 0)
        return json.dumps({"strategies": [HOSTILE]}) if asked == "StrategiesAnswer" else None

    with FakeOpenAI(script=answer, seed=3, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        following = subprocess.Popen(
            [sys.executable, "-c", "from penjing.main import main; main()", "search", str(config_file)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert following.stderr is not None
        next(line for line in following.stderr if line.startswith("run "))
        lines = [json.loads(line) for line in traced("--follow", "--json").splitlines()]
        following.communicate()
    assert {line["name"] for line in lines} >= {"evaluation", "chat openai:fake"}
    assert {line["status"] for line in lines if line["name"] == "chat openai:fake"} == {"running", "done"}
    assert "done" in {line["status"] for line in lines if line["kind"] == "EVALUATOR"}

    tree = traced()
    assert "trial 0:  loss " in tree and "hidden" in tree and "turn 1: evolver" in tree and "tokens" in tree
    assert "remember" not in tree and "remember" in traced("--all")
    assert "\x1b" not in tree and "[red]Keep more" in tree, "text of agents is data"

    (root,) = json.loads(traced("--json"))["trace"]
    assert root["name"] == "search" and root["input_tokens"] > 0 and root["seconds"] > 0
    found = json.loads(traced("--json", "--grep", "keep more ffn"))["trace"][0]
    assert found["input_tokens"] == root["input_tokens"] and "survey" not in json.dumps(found)
    assert "nothing in run" in traced("--grep", "no such words")

    calls = json.loads(traced("--calls", "--json"))["calls"]
    assert {call["schema_name"] for call in calls} >= {"StrategiesAnswer", "DesignAnswer"}
    text = traced("--calls")
    assert "[red]Keep more FFN channels[/red]" in text and "\x1b" not in text and "\u202e" not in text
    assert text.count("# Current architecture") < len(calls), "what was said before is not said again"

    story = json.loads(traced("latest", "1", "--json"))
    assert story["based_on"][0]["number"] == 0 and len(story["conversation"]) >= 2
    assert story["measurement"]["loss"] is not None and story["attempts"]
    told = traced("latest", "1")
    assert "from trial 0" in told and "measured: loss" in told and "training:" in told
    assert f"from {story['source_parameters']:,} to {story['parameters']:,} parameters" in told and "drop event" in told
    assert "has no trial 7" in refused("latest", "7")
    assert "no run 'nothing'" in refused("nothing")


def test_a_trace_without_any_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENJING_HOME", str(tmp_path / "home"))
    assert "nothing was recorded" in refused()
