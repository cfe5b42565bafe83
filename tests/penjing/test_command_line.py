"""The command line: what it prints, its JSON documents, its exit codes, and one sentence for every mistake."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from penjing.commands import app
from tests.fake_openai import FakeOpenAI

runner = CliRunner()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENJING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "home"


@pytest.fixture
def config_file(settings_of: Callable[..., dict[str, Any]], tmp_path: Path, home: Path) -> Path:
    plain = settings_of(tmp_path, trials=3)
    del plain["home"], plain["cache"]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


def refused(*arguments: str) -> str:
    """The one sentence with which bad input ends."""
    result = runner.invoke(app, list(arguments))
    assert result.exit_code == 2, result.output
    assert result.stdout == "" and "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("penjing: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.mark.parametrize("command", ["search", "resume", "runs", "show", "export", "settings"])
def test_help_teaches(command: str) -> None:
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0 and "--json" in result.output and "--debug" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "trails=3"], "no setting 'trails' (from --set); did you mean 'trials'?"),
        (["--set", "recipe.trainingsteps=3"], "did you mean 'recipe.training_steps'?"),
        (["--set", "training_steps=3"], "did you mean 'recipe.training_steps'?"),
        (["--set", "trials=none"], "trials cannot be used"),
        (["--set", "trials=0"], "greater than or equal to 1"),
        (["--set", "max_parameters=big"], "115M, 1.1B or 900000"),
        (["--set", "trials"], "key=value"),
        (["--set", "workers=threads"], "there are no workers 'threads', only local, processes, processes:N, ray"),
        (["--set", "workers=processes:0"], "a whole number of at least 1, not '0'"),
        (["--set", "workers=ray:"], "needs an address, like ray:10.0.0.1:6379"),
        (["--set", "chat_model=gpt"], "did you mean 'openai:gpt'?"),
        (["--preset", "fast"], "the presets are: quick"),
        (["nowhere.yaml"], "Cannot read the configuration nowhere.yaml"),
    ],
)
def test_bad_settings(home: Path, arguments: list[str], words: str) -> None:
    assert words in refused("search", *arguments)
    assert not home.exists()


@pytest.mark.parametrize(
    ("text", "words"), [("a: [1", "no valid YAML"), ("- 1\n- 2", "key: value"), ("sorce: x", "did you mean 'source'?")]
)
def test_bad_files(home: Path, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert words in refused("search", str(path))


def test_bad_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENJING_TRIAL", "3")
    assert "did you mean 'PENJING_TRIALS'?" in refused("search")


def test_the_later_setting_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from penjing.configuration import load_config

    path = tmp_path / "settings.yaml"
    path.write_text("trials: 7\nseed: 7\nrecipe: {training_steps: 7, batch_size: 7}\n")
    monkeypatch.setenv("PENJING_SEED", "8")
    monkeypatch.setenv("PENJING_RECIPE__TRAINING_STEPS", "8")
    config = load_config(path, "quick", ["recipe.training_steps=9", "max_parameters=100M"])
    assert (config.trials, config.seed, config.recipe.training_steps, config.recipe.batch_size) == (7, 8, 9, 7)
    assert config.max_parameters == 100_000_000 and config.top_k == 4, "the preset is below all of them"


def test_an_unwritable_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PENJING_HOME", str(tmp_path / "file" / "home"))
    assert "Cannot write to" in refused("search", "--preset", "quick")


@pytest.mark.parametrize("command", [["show", "20"], ["resume", "20"], ["export", "20", "out"]])
def test_a_run_that_does_not_exist(home: Path, command: list[str]) -> None:
    assert "no run '20'" in refused(*command)


def test_no_run_yet(home: Path) -> None:
    result = runner.invoke(app, ["runs"])
    assert result.exit_code == 0 and "penjing search --preset quick" in result.stderr
    assert json.loads(runner.invoke(app, ["runs", "--json"]).stdout) == {"runs": []}


def test_errors_as_json(home: Path) -> None:
    result = runner.invoke(app, ["show", "20", "--json"])
    document = json.loads(result.stdout)
    assert result.exit_code == document["exit_code"] == 2 and "no run" in document["error"]


def test_endpoints_that_fail(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert "OPENAI_API_KEY" in refused("search", str(config_file))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    unreachable = refused("search", str(config_file))
    assert "127.0.0.1:9" in unreachable and "canary" not in unreachable
    with FakeOpenAI(key="sk-right") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        wrong = refused("search", str(config_file))
    assert "key" in wrong and "canary" not in wrong


def test_from_search_to_export(config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeOpenAI(seed=2, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        result = runner.invoke(app, ["search", str(config_file), "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["status"] == "finished" and len(document["trials"]) == 3
    assert len(document["result"]["table"]) == 3 and Path(document["result"]["export"], "config.json").is_file()
    assert "trial 0" in result.stderr and "best is trial" in result.stderr

    run = document["run"]
    [listed] = json.loads(runner.invoke(app, ["runs", "--json"]).stdout)["runs"]
    best = min(document["trials"], key=lambda trial: trial["measurement"]["loss"])
    assert (listed["run"], listed["trials"], listed["trials_wanted"]) == (run, 3, 3)
    assert listed["best_parameters"] == best["parameters"] <= listed["max_parameters"]
    table = runner.invoke(app, ["runs"], env={"COLUMNS": "160"}).stdout
    assert "3 of 3" in table and f"{best['parameters'] / 1e6:.1f}M" in table
    shown = runner.invoke(app, ["show", run[:-2], "--picture", str(tmp_path / "picture.svg")])
    assert shown.exit_code == 0 and "best of the search" in shown.stdout and (tmp_path / "picture.svg").is_file()
    assert json.loads(runner.invoke(app, ["show", "latest", "--json"]).stdout)["pareto"]

    exported = runner.invoke(app, ["export", run, "0", str(tmp_path / "model"), "--json"])
    assert exported.exit_code == 0 and json.loads(exported.stdout)["trial"] == 0
    assert "exists already" in refused("export", run, str(tmp_path / "model"))
    assert runner.invoke(app, ["export", run, str(tmp_path / "model"), "--overwrite"]).exit_code == 0
    assert "no trial 9" in refused("export", run, "9", str(tmp_path / "other"))
    assert "no trial number" in refused("export", run, "nine", str(tmp_path / "other"))

    again = runner.invoke(app, ["resume", run])
    assert again.exit_code == 0 and "best of the search" in again.stdout


def test_settings_explain_themselves(home: Path) -> None:
    rows = json.loads(runner.invoke(app, ["settings", "--json"]).stdout)["settings"]
    assert all(row["description"] for row in rows if row["key"] != "data")
    assert {"source", "recipe.training_steps", "space.uniform", "chat_model"} <= {row["key"] for row in rows}
