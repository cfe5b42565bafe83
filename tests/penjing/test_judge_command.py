"""The comparison with judges on the command line."""

import json
import os
import signal
import subprocess
import sys
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
def config_file(settings_of: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENJING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path / "cache"))
    plain = settings_of(tmp_path, trials=3)
    del plain["home"], plain["cache"]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


def invoke(*arguments: str, code: int = 0) -> Any:
    result = runner.invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


def test_from_a_search_with_judges_to_the_same_after_the_fact(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tmp_path / "lift.svg"
    command = ["search", str(config_file), "--judges", "random,local", "--seeds", "2", "--picture", str(picture)]
    with FakeOpenAI(seed=2, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        first = invoke(*command, "--json")
        asked = len(server.requests)
        again = invoke(*command)
        assert len(server.requests) == asked
    document = json.loads(first.stdout)
    assert [one["searcher"] for one in document["searches"]] == ["agents", "random", "local"] * 2
    assert all(len(one["values"]) == 3 and one["best"] == min(one["values"]) for one in document["searches"])
    assert [one["judge"] for one in document["lifts"]] == ["random", "local"]
    assert "search 4 of 6: agents, seed 1, run" in first.stderr and "finished before" not in first.stderr
    assert picture.read_text().startswith("<?xml")
    assert again.stderr.count("(finished before)") == 6
    for lift in document["lifts"]:
        assert lift["sentence"].startswith("No lift of the LLM is shown") and lift["sentence"] in again.stdout
    assert "saliency-greedy" in again.stdout and "Best design of all" in again.stdout
    run = document["searches"][0]["run"]
    after = json.loads(invoke("judge", run, "--json").stdout)
    assert [one["run"] for one in after["searches"]] == [one["run"] for one in document["searches"][:2]]
    names = [entry["name"] for entry in json.loads(invoke("runs", "--json").stdout)["runs"]]
    assert sorted(names) == ["agents 0", "agents 1", "local 0", "local 1", "random 0", "random 1"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_killed_half_way_and_started_again(config_file: Path, tmp_path: Path, kind: signal.Signals) -> None:
    command = [sys.executable, "-m", "penjing.main", "search", str(config_file), "--judges", "random", "--json"]
    with FakeOpenAI(seed=2, models=("fake",)) as server:
        environment = {**os.environ, "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-any", "OMP_NUM_THREADS": "1"}
        piped = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, **piped)
        judged = False
        for line in process.stderr:
            judged = judged or "search 2 of 2: random" in line
            if judged and "trial 1: growing" in line:
                break
        process.send_signal(kind)
        said = process.stderr.read()
        code = process.wait(timeout=30)
        before, asked = measured(tmp_path), len(server.requests)
        done = subprocess.run(command, check=False, **piped)
    assert code == (-kind if kind == signal.SIGKILL else 130), said
    if kind == signal.SIGINT:
        assert "Go on with: penjing judge 2" in said and "--judges random --seeds 1" in said
    assert done.returncode == 0, done.stderr
    after, document = measured(tmp_path), json.loads(done.stdout)
    assert len(before) >= 3 and before.items() <= after.items() and len(server.requests) == asked
    assert [len(one["values"]) for one in document["searches"]] == [3, 3]
    assert len(json.loads(invoke("runs", "--json").stdout)["runs"]) == 2, "no search was begun anew"


def measured(folder: Path) -> dict[str, int]:
    """When each evaluation was written."""
    files = (folder / "home" / "evaluations").glob("*/measurement.json")
    return {file.parent.name: file.stat().st_mtime_ns for file in files}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--judges", "randm"], "did you mean 'random'?\n"),
        (["--judges", ","], "one judge and one seed"),
        (["--seeds", "3"], "go with --judges"),
        (["--picture", "lift.png"], "go with --judges"),
        (["--judges", "random", "--picture", "lift.txt"], "no name of a picture"),
        (["--judges", "random", "--record", "tape.jsonl"], "leave one of them out"),
        (["--judges", "random", "--set", "llm_share=0"], "nothing to compare"),
        (["--set", "judge=locale"], "did you mean 'local'"),
        (["--set", "llm_share=1.5"], "less than or equal to 1"),
    ],
)
def test_bad_input(config_file: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    result = invoke("search", str(config_file), *arguments, code=2)
    assert words in result.stderr and result.stderr.count("\n") == 1 and not (tmp_path / "home").exists()


def test_no_run_to_judge(config_file: Path) -> None:
    assert "no run '20'" in invoke("judge", "20", code=2).stderr
    assert "no run" in invoke("judge", code=2).stderr


def test_the_estimate(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    alone = ["search", str(config_file), "--dry-run", "--set", "llm_share=0", "--set", "judge=evolution"]
    document = json.loads(invoke(*alone, "--json").stdout)
    assert document["turns"] == {"greedy": 1, "self_evolution": 0, "knowledge_distillation": 0, "judge": 2}
    assert document["agents"]["tokens"] == {"likely": 0, "most": 0}
    said = invoke(*alone).stdout
    assert "2 of the judge evolution" in said and "none are asked" in said
    with FakeOpenAI(models=("fake",)) as server:
        server.set_environment(monkeypatch)
        compared = invoke("search", str(config_file), "--dry-run", "--judges", "random,tpe", "--seeds", "4").stdout
    assert "The comparison is 4 of these and 4 by each of random, tpe" in compared
