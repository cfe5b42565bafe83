"""`penjing prompts`: looking at templates, editing them before and during a search, and what each version led to."""

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from graph.config import SearchConfig
from graph.session import SearchSession
from penjing.commands import app
from tests.fake_openai import FakeOpenAI

runner = CliRunner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENJING_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PENJING_PROMPT_DIR", raising=False)
    return tmp_path / "home"


def done(*arguments: str, code: int = 0) -> str:
    result = runner.invoke(app, ["prompts", *arguments])
    assert result.exit_code == code and "Traceback" not in result.output, result.output
    return result.stdout + result.stderr


def editor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, before: str, after: str) -> None:
    """An editor that replaces words."""
    script = tmp_path / "editor.py"
    script.write_text(
        "import sys, pathlib\npath = pathlib.Path(sys.argv[1])\n"
        f"path.write_text(path.read_text().replace({before!r}, {after!r}))\n"
    )
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")


def test_without_any_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {row["name"]: row for row in json.loads(done("list", "--json"))["prompts"]}
    assert rows["strategies"]["answer"] == "StrategiesAnswer" and not rows["strategies"]["own"]
    assert "# Current architecture" in done("show", "strategies")
    checked = done("check")
    assert "nothing to find fault with" in checked and "of the 4,096 of local" in checked
    assert "there is no prompt 'nothing'" in done("show", "nothing", code=2)
    assert "Say where your templates are" in done("edit", "strategies", code=2)
    mine = str(tmp_path / "mine")
    monkeypatch.delenv("EDITOR", raising=False)
    monkeypatch.delenv("VISUAL", raising=False)
    assert "Set EDITOR" in done("edit", "strategies", "--dir", mine, code=2)
    editor(monkeypatch, tmp_path, "As JSON.", "As short JSON.")
    assert "nothing to find fault with in strategies" in done("edit", "strategies", "--dir", mine)
    assert "+" in done("diff", "--dir", mine) and "As short JSON." in done("show", "strategies", "--dir", mine)
    assert "As short" not in done("show", "strategies"), "the packaged one is as it was"
    (tmp_path / "long").mkdir()
    text = (Path(__file__).parents[2] / "prompts" / "strategies.md").read_text()
    (tmp_path / "long" / "strategies.md").write_text(
        text.replace("# Answer", "All work and no play. " * 600 + "\n# Answer")
    )
    assert "error: strategies: it is too long" in done("check", "strategies", "--dir", str(tmp_path / "long"), code=2)
    editor(monkeypatch, tmp_path, "{{ parent.design }}", "{{ parent.design")
    assert "error: strategies, line" in done("edit", "strategies", "--dir", mine, code=2)
    assert "no such folder" in done("list", "--dir", str(tmp_path / "nowhere"), code=2)
    assert "Nothing was recorded" in done("compare", "latest", code=2)


def test_steering_a_search_that_runs(
    settings_of: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = settings_of(tmp_path, trials=5, self_evolution=4, patience=9)
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(plain))
    told, asking, edited = [], threading.Semaphore(0), threading.Semaphore(0)

    def answer(body: dict[str, Any]) -> None:
        """Each answer of strategies waits for the next edit, so that the search does not run ahead of its user."""
        if body["response_format"]["json_schema"]["name"] == "StrategiesAnswer":
            asking.release()
            edited.acquire(timeout=60)

    with FakeOpenAI(script=answer, seed=3, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        session = SearchSession.start(SearchConfig(**plain))
        for event in session.stream():
            if event.kind == "evaluation" and event.trial == 0:
                assert asking.acquire(timeout=60)
                editor(monkeypatch, tmp_path, "As JSON.", "Be bold. As JSON.")
                done("edit", "strategies", "--run", "latest")
                edited.release()
            if event.kind == "evaluation" and event.trial == 1:
                assert asking.acquire(timeout=60)
                editor(monkeypatch, tmp_path, "{% if history %}", "{% if history %")
                assert "error: strategies" in done("edit", "strategies", "--run", "latest", code=2)
                edited.release(9)
            if event.kind == "prompt":
                told.append(event)
    assert [bool(event.refused) for event in told] == [False, True] and "line" in told[1].refused
    asked = [call for call in session.calls() if call.schema_name == "StrategiesAnswer"]
    bold = ["Be bold." in call.messages[-1]["content"] for call in asked]
    assert bold[0] is False and all(bold[1:]) and len(bold) > 2, "taken at the next turn, and kept"
    assert len({call.prompt_hash for call in asked}) == 2
    assert len(session.calls()) == len(server.requests), "nothing was asked twice"

    rows = json.loads(done("compare", "latest", "--json"))["prompts"]
    versions = [row for row in rows if row["name"] == "strategies"]
    assert sorted(row["hash"] for row in versions) == sorted({str(call.prompt_hash) for call in asked})
    assert sum(row["calls"] for row in versions) == len(asked)
    assert all(row["designs"] <= row["answers"] and row["better"] <= row["designs"] for row in versions)
    assert "better than parent" in done("compare", "latest")

    assert "strategies.md, line" in done("render", "strategies", "--run", "latest", "--trial", "1", code=2)
    (session.folder.prompts / "strategies.md").unlink()
    rendered = json.loads(done("render", "strategies", "--run", "latest", "--trial", "1", "--json"))
    assert rendered["text"] == asked[0].messages[-1]["content"], "the same words as the agent saw"
    assert "was not used" in done("render", "inspiration", "--run", "latest", "--trial", "1", code=2)
