"""A key that the chat model's server wants is nowhere afterwards: in no record, trace, tape, report or message."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from penjing.commands import app
from tests.fake_openai import FakeOpenAI, Status

CANARY = "sk-canary-5f3a9c1e7b"
PENJING = [sys.executable, "-c", "from penjing.main import main; main()"]


@pytest.fixture
def config_file(settings_of: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENJING_HOME", str(tmp_path / "everything" / "home"))
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path / "everything" / "cache"))
    plain = settings_of(tmp_path, trials=2)
    del plain["home"], plain["cache"]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


def penjing(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*PENJING, *arguments], capture_output=True, check=False)


def test_a_key_is_in_no_file_and_no_output(config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = tmp_path / "everything"
    with FakeOpenAI(seed=3, models=("fake",), key=CANARY) as server:
        server.set_environment(monkeypatch)
        searched = penjing("search", str(config_file), "--record", str(everything / "tape.jsonl"), "--debug", "--json")
        assert searched.returncode == 0, searched.stderr
        # The server got it, so that it was there to be lost.
        assert any(CANARY in request.headers.get("authorization", "") for request in server.requests)
    for command in (
        ["show", "--json"],
        ["trace", "--json"],
        ["trace", "--calls"],
        ["report", "latest", "--out", str(everything / "report.html")],
        ["memory", "export", str(everything / "export.jsonl")],
    ):
        looked = CliRunner().invoke(app, command)
        assert looked.exit_code == 0, (command, looked.stderr)
        assert CANARY not in looked.stdout + looked.stderr, command
    assert CANARY.encode() not in searched.stdout + searched.stderr
    files = [path for path in everything.rglob("*") if path.is_file()]
    assert {"tape.jsonl", "report.html", "export.jsonl"} <= {path.name for path in files}
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("code", [401, pytest.param(400, marks=pytest.mark.slow)])
def test_a_server_that_repeats_the_key_does_not_make_us_print_it(
    code: int, config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Status(code, f"Bad request with the key {CANARY} and 'temperature'.")
    with FakeOpenAI(script=lambda body: said, models=("fake",), key=CANARY) as server:
        server.set_environment(monkeypatch)
        done = penjing("search", str(config_file), "--json")
    assert len(server.requests) > 0 and b"The chat" in done.stdout + done.stderr
    assert CANARY.encode() not in done.stdout + done.stderr
    files = [path for path in (tmp_path / "everything").rglob("*") if path.is_file()]
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []
