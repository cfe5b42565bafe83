"""The budget on the command line: estimate, what is shown of it, and how a search goes on with more."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from graph.budget import BudgetCaps
from graph.events import BudgetEvent
from penjing.commands import app
from penjing.dry_run import _steps
from penjing.progress import SearchProgress
from tests.fake_openai import FakeOpenAI

runner = CliRunner()


@pytest.fixture
def config_file(settings_of: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENJING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path / "cache"))
    plain = settings_of(tmp_path, trials=4, max_tokens=400)
    del plain["home"], plain["cache"]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


def invoke(*arguments: str, code: int = 0) -> Any:
    result = runner.invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


def test_from_the_estimate_to_a_search_that_goes_on(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeOpenAI(seed=2, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        estimate = json.loads(invoke("search", str(config_file), "--dry-run", "--json").stdout)
        assert estimate["trials"] == 4 and estimate["agents"]["usd"] == {"likely": None, "most": None}
        said = invoke("search", str(config_file), "--dry-run").stdout
        assert "cost not known" in said and "are legal" in said and "Nothing was trained" in said
        assert not (tmp_path / "home").exists() and not server.requests

        first = invoke("search", str(config_file), "--set", "budget.llm_tokens=4500", "--json")
        document = json.loads(first.stdout)
        tokens = document["budget"]["llm_tokens"]
        assert document["status"] == "finished" and document["result"]["budget_reached"] == "llm_tokens"
        assert 0 < tokens["spent"] <= tokens["cap"] == 4500 and document["budget"]["unpriced_calls"] > 0
        assert document["budget"]["usd"] == {"spent": None, "cap": None, "shared": 0}
        assert "spent: 1 of 4 trials" in first.stderr
        run = document["run"]
        shown = invoke("show", run).stdout
        assert "Budget" in shown and "4,500" in shown and "unknown for" in shown

        again = invoke("resume", run)
        assert f"penjing resume {run} --set budget.llm_tokens=MORE" in again.stdout
        refused = invoke("resume", run, "--set", "trials=9", code=2)
        assert "trials: 4 -> 9" in refused.stderr and refused.stdout == ""
        assert "did you mean 'budget.llm_tokens'" in invoke("resume", run, "--set", "budget.llmtokens=9", code=2).stderr
        assert "greater than" in invoke("resume", run, "--set", "budget.usd=0", code=2).stderr
        more = json.loads(invoke("resume", run, "--set", "budget.llm_tokens=null", "--json").stdout)
        assert len(more["trials"]) == 4 and more["message"] == "all trials done"
        assert more["budget"]["llm_tokens"]["cap"] is None and more["config"]["budget"]["llm_tokens"] is None
        assert more["budget"]["llm_tokens"]["spent"] > tokens["spent"]


def test_what_cannot_be_done(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeOpenAI() as server:
        server.set_environment(monkeypatch)
        unpriced = invoke("search", str(config_file), "--dry-run", "--set", "budget.usd=5", code=2)
        small = invoke("search", str(config_file), "--dry-run", "--set", "max_parameters=500", code=2)
    assert "price of openai:fake here is not known" in unpriced.stderr and "smallest legal design" in small.stderr


def test_the_bar_shows_what_is_nearest_to_its_cap() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=160)
    event = BudgetEvent(
        run="r",
        trials_done=1,
        trials=4,
        input_tokens=300,
        output_tokens=100,
        usd=0.02,
        caps=BudgetCaps(llm_tokens=1000, usd=1.0),
    )
    with SearchProgress(console, 4) as progress:
        progress.show(event)
    assert "tokens 40%" in screen.getvalue()
    lines = io.StringIO()
    with SearchProgress(Console(file=lines, width=200), 4) as progress:
        progress.show(event)
    assert (
        "spent: 1 of 4 trials; 300 tokens read, 100 written; 400 of 1,000 LLM tokens; $0.0200 of $1" in lines.getvalue()
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1, 2, 3], "1 to 3"),
        ([1, 2], "1, 2"),
        ([64, 128, 192, 256], "64 to 256 in steps of 64"),
        ([64, 128, 192, 200], "64 to 192 in steps of 64, 200"),
        ([5], "5"),
    ],
)
def test_widths_in_short(values: list[int], said: str) -> None:
    assert _steps(values) == said
