"""What goes into searches: every family of models, bad input of every kind, and the script of the documentation."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from graph.config import SearchConfig
from graph.session import SearchSession
from tests.fake_openai import FakeOpenAI
from tools.errors import InputError

ConfigOf = Callable[..., SearchConfig]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    with FakeOpenAI(seed=3, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        yield server


@pytest.mark.parametrize("family", ["llama-untied", "llama-mqa", "mistral", "qwen2", "qwen3"])
def test_every_family_is_grown_and_exported(
    config_of: ConfigOf, sources: dict[str, Path], tmp_path: Path, family: str
) -> None:
    session = SearchSession.start(config_of(trials=1, source=str(sources[family]), max_parameters=None))
    best = session.run()
    assert best.succeeded and (session.folder.export / "model.safetensors").is_file()
    assert session.export(best, tmp_path / "out", format="gguf").path.suffix == ".gguf"


def test_the_script_of_the_design(
    settings_of: Callable[..., dict[str, Any]],
    endpoint: FakeOpenAI,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The script that the documentation shows, with a local source; everything else is set by the environment."""
    import json

    plain = settings_of(tmp_path)
    for key in ("home", "cache", "workers", "data", "recipe", "space", "repairs"):
        value = plain[key]
        monkeypatch.setenv(f"PENJING_{key.upper()}", value if isinstance(value, str) else json.dumps(value))
    script = f"""
from penjing import SearchConfig, SearchSession

config = SearchConfig(source={plain["source"]!r}, corpus={plain["corpus"]!r},
                      max_parameters=80_000, trials=4, chat_model="openai:fake")
session = SearchSession.start(config)
for event in session.stream():          # typed events: proposal, evaluation, pattern, budget, ...
    print(event)
best = session.best()                   # a Trial: architecture, metrics, lineage, prompt, cost
session.export(best, {str(tmp_path / "out")!r}, format="gguf")
"""
    exec(compile(script, "script", "exec"), {})  # noqa: S102 - our own text
    assert "finished" in capsys.readouterr().out
    assert list((tmp_path / "out").glob("*.gguf"))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"max_parameters": 200_000}, "not below the source's"),
        ({"max_parameters": 500}, "smallest legal design"),
        ({"source": "nobody/no-such-model"}, "nobody/no-such-model"),
        ({"corpus": "nobody/no-such-data"}, "nobody/no-such-data"),
    ],
)
def test_bad_input_is_one_sentence_before_anything_is_paid(
    config_of: ConfigOf, endpoint: FakeOpenAI, overrides: dict[str, Any], words: str
) -> None:
    session = SearchSession.start(config_of(**overrides))
    with pytest.raises(ValueError, match=words) as caught:
        list(session.stream())
    assert "\n" not in str(caught.value)
    assert not session.trials() and not endpoint.requests


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"source": "/nowhere/at/all"}, "There is no directory '/nowhere/at/all'"),
        ({"source": __file__}, "is a file; give the directory"),
        ({"corpus": "/nowhere/text.jsonl"}, "There is no corpus file /nowhere/text.jsonl"),
        ({"corpus": "/nowhere/at/all"}, "There is no corpus '/nowhere/at/all'"),
        ({"corpus": __file__}, "is of unknown kind"),
        ({"prompt_dir": "/nowhere/prompts"}, "no such folder"),
    ],
)
def test_what_cannot_be_of_that_name_leaves_no_run(config_of: ConfigOf, overrides: dict[str, Any], words: str) -> None:
    config = config_of(**overrides)
    with pytest.raises(ValueError, match=words) as caught:
        SearchSession.start(config)
    assert "\n" not in str(caught.value) and not config.home.exists()


def test_a_failed_evaluation_is_a_result_that_the_agents_see(config_of: ConfigOf, endpoint: FakeOpenAI) -> None:
    recipe = {"warmup_steps": 1, "training_steps": 2, "batch_size": 1, "micro_batch_size": 1, "learning_rate": 1e30}
    session = SearchSession.start(config_of(trials=2, recipe=recipe))
    with pytest.raises(InputError, match="No design could be grown"):
        list(session.stream())
    trials = session.trials()
    assert trials[0].measurement is not None and trials[0].measurement.failure is not None
    assert trials[0].measurement.failure.kind == "not_finite"
