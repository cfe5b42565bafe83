"""What a search would cost, said before it begins: against what the same search then really is."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from graph.config import SearchConfig
from graph.dry_run import dry_run
from graph.session import SearchSession
from tests.fake_openai import FakeOpenAI
from tools.errors import InputError
from tools.sources import source_at_hand

ConfigOf = Callable[..., SearchConfig]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    with FakeOpenAI(seed=3, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        yield server


def estimate(config: SearchConfig) -> dict[str, Any]:
    return asyncio.run(dry_run(config))


def test_before_and_after_the_survey(config_of: ConfigOf, endpoint: FakeOpenAI, tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("prices: [{model: fake, input: 1, output: 2}]")
    config = config_of(prices=prices, max_tokens=200, budget={"llm_tokens": 1000, "evaluation_seconds": 1e-6})
    before = estimate(config)
    assert not config.home.exists() and not config.cache.exists() and not endpoint.requests, "nothing is made"
    assert before["turns"] == {"greedy": 1, "self_evolution": 2, "knowledge_distillation": 2, "judge": 0}
    assert before["agents"]["calls"]["most"] == 2 * (2 + 1) + 2 * (1 + 1)
    assert before["training_tokens"] == {"survey": 128, "trial": 128, "all": 6 * 128}
    assert before["time"] is None and not before["survey_cached"] and before["designs"]["saliency_greedy"] is None
    assert any("not surveyed" in note for note in before["notes"])
    assert any("budget.llm_tokens is likely to end the search early" in note for note in before["notes"])

    session = SearchSession.start(config_of(max_tokens=200, prices=prices))
    session.run()
    after = estimate(config)
    assert after["survey_cached"] and after["training_tokens"]["survey"] == 0
    assert after["time"] is not None and after["time"]["evaluations"] == pytest.approx(5 * after["time"]["trial"])
    assert any(
        "evaluation_seconds is likely to end the search before the first trial" in note for note in after["notes"]
    )
    greedy = session.trial(0).architecture
    assert after["designs"]["saliency_greedy"] == {"parameters": greedy.parameters, "design": greedy.describe()}
    for found in (before, after):
        designs, agents = found["designs"], found["agents"]
        assert 77_600 == designs["min_parameters"] <= designs["smallest"]["parameters"]
        assert (
            designs["smallest"]["parameters"] <= designs["largest"]["parameters"] <= designs["max_parameters"] == 80_000
        )
        assert designs["hidden_sizes"][-1] == 64 and designs["intermediate_sizes"][:2] == [8, 16]
        spent = session.spent()
        assert spent.usd is not None and spent.llm_tokens <= agents["tokens"]["most"] < 20 * spent.llm_tokens
        assert spent.usd <= agents["usd"]["most"] and agents["usd"]["likely"] < agents["usd"]["most"]
        assert found["memory"]["needed_mb"] == pytest.approx(sum(found["memory"]["parts_mb"].values()))
        assert 500 < found["memory"]["needed_mb"] < 600 and found["memory"]["machine_mb"] > 500


def test_nobody_to_ask(config_of: ConfigOf) -> None:
    document = estimate(config_of(trials=1, chat_model="local"))
    assert document["agents"] == {
        "calls": {"most": 0},
        "tokens": {"likely": 0, "most": 0},
        "usd": {"likely": 0, "most": 0},
    }


@pytest.mark.parametrize(
    "overrides",
    [
        {"max_parameters": 200_000},
        {"max_parameters": 500},
        {"max_parameters": None, "max_file_mb": 1e-3},
        {"max_parameters": None, "max_file_mb": 1000.0},
        {"source": "/nowhere/at/all"},
        {"corpus": "/nowhere/text.jsonl"},
        {"prompt_dir": "/nowhere/prompts"},
        {"budget": {"usd": 1}},
        {"prices": "/nowhere/prices.yaml"},
    ],
)
def test_what_cannot_be_done_is_said_as_the_search_says_it(
    config_of: ConfigOf, endpoint: FakeOpenAI, overrides: dict[str, Any]
) -> None:
    config = config_of(**overrides)
    with pytest.raises(ValueError, match=r"\w") as dry:
        estimate(config)
    with pytest.raises(ValueError, match=r"\w") as real:
        SearchSession.start(config).run()
    assert str(dry.value) == str(real.value)


def test_what_only_a_survey_knows_is_no_reason_to_refuse(config_of: ConfigOf, endpoint: FakeOpenAI) -> None:
    config = config_of(max_parameters=None, max_file_mb=0.15, min_parameters=79_000)
    assert estimate(config)["designs"]["max_parameters"] > 70_000


def test_a_source_that_is_not_converted_yet(tmp_path: Path) -> None:
    """Its header alone is read."""
    found = source_at_hand("smollm2-135m", tmp_path / "sources")
    assert getattr(found, "parameters", None) == 134_515_008 and not (tmp_path / "sources").exists()
    with pytest.raises(InputError, match="no directory '/nowhere'"):
        source_at_hand("/nowhere", tmp_path)


def test_what_only_looks_loads_no_training_code() -> None:
    """Seconds for which somebody would wait: transformers' model code is for those who train."""
    probe = "import sys, graph.dry_run; print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
