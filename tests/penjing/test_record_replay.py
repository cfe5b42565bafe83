"""`penjing search --record` and `--replay`: the same search without its endpoint, also after a kill."""

import json
import os
import signal
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
from tests.fake_openai import FakeOpenAI, Reply

ROOT = Path(__file__).parents[2]
PENJING = [sys.executable, "-m", "penjing.main"]
runner = CliRunner()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PENJING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "home"


@pytest.fixture
def config_file(settings_of: Callable[..., dict[str, Any]], tmp_path: Path, home: Path) -> Path:
    plain = settings_of(tmp_path, trials=2)
    del plain["home"], plain["cache"]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


def designs(document: dict[str, Any]) -> list[Any]:
    return [(trial["design"], trial["measurement"]["loss"], trial["outcome"]) for trial in document["trials"]]


def test_a_recorded_search_needs_no_key_again(config_file: Path, tmp_path: Path, home: Path) -> None:
    tape = str(tmp_path / "my tape: 1.jsonl")
    with FakeOpenAI(seed=3, models=("fake",)) as server, pytest.MonkeyPatch.context() as patch:
        server.set_environment(patch)
        first = runner.invoke(app, ["search", str(config_file), "--record", tape, "--json"])
        assert first.exit_code == 0, first.output
        again = runner.invoke(app, ["search", str(config_file), "--record", tape])
        assert again.exit_code == 2 and "choose another file for record" in " ".join(again.stderr.split())
    second = runner.invoke(app, ["search", str(config_file), "--replay", tape, "--json"])
    assert second.exit_code == 0, second.output
    recorded, replayed = json.loads(first.stdout), json.loads(second.stdout)
    assert recorded["run"] != replayed["run"] and designs(recorded) == designs(replayed)
    assert recorded["ledger"] == replayed["ledger"] and recorded["ledger"]["raw"] > 0
    assert recorded["tokens"] == replayed["tokens"]
    shown = runner.invoke(app, ["show", replayed["run"]]).stdout
    assert f"agents' answers: {recorded['ledger']['raw']} raw, " in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--replay", "nowhere.jsonl"], "nowhere.jsonl (No such file or directory)"),
        (["--replay", "tiny.yaml"], "tiny.yaml is no cassette, or damaged: line 1 cannot be read"),
        (["--record", "."], "Cannot record into"),
        (["--record", "a.jsonl", "--replay", "a.jsonl"], "recorded or replayed, not both"),
    ],
)
def test_bad_input_in_one_sentence(
    config_file: Path, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config_file.parent)
    result = runner.invoke(app, ["search", str(config_file), *arguments])
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("penjing: ")]
    assert len(lines) == 1 and words in lines[0]


@pytest.mark.slow
def test_a_recording_outlives_kill_9(config_file: Path, tmp_path: Path, home: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    requests = 0

    def slow(_: dict[str, Any]) -> Any:
        # The second call is under way when the kill comes.
        nonlocal requests
        requests += 1
        return Reply("{}", delay_seconds=60) if requests == 2 else None

    def penjing(*arguments: str) -> dict[str, Any]:
        command = [*PENJING, *arguments, "--json"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    with FakeOpenAI(script=slow, seed=4, models=("fake",)) as server:
        environment = {**os.environ, "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-any", "OMP_NUM_THREADS": "1"}
        command = [*PENJING, "search", str(config_file), "--record", str(tape)]
        with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 240
            while requests < 2 and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
        before = tape.read_bytes()
        assert [json.loads(line)["kind"] for line in before.splitlines()] == ["search", "memory", "call"]
        tape.write_bytes(before + b'{"kind":"call","tu')
        finished = penjing("resume", "latest")
    assert tape.read_bytes().startswith(before)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    assert designs(penjing("search", str(config_file), "--replay", str(tape))) == designs(finished)
