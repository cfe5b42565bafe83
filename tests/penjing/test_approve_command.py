"""A search that waits for its user is killed, decided on from elsewhere, and asks in its own terminal."""

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from graph.session import SearchSession
from penjing.commands import app
from tests.fake_openai import FakeOpenAI
from tools.errors import InputError

PENJING = [sys.executable, "-m", "penjing.main"]
WORDS = "More heads in layer 0."


def command(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["approve", *arguments])


def until(stream: Any, words: str) -> str:
    """What was said up to these words."""
    said = ""
    while words not in said:
        part = os.read(stream, 4096).decode(errors="replace")
        assert part, said
        said += part
    return said


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_a_killed_search_is_decided_on_and_goes_on(
    settings_of: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, editor = tmp_path / "tiny.yaml", tmp_path / "editor.py"
    file.write_text(yaml.safe_dump(settings_of(tmp_path, trials=2, self_evolution=1, patience=9)))
    editor.write_text("import pathlib, sys\npathlib.Path(sys.argv[-1]).write_text('{\"hidden_size\": 7}')\n")
    monkeypatch.setenv("PENJING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EDITOR", f"{sys.executable} {editor}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with FakeOpenAI(seed=4, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        search = subprocess.Popen(
            [*PENJING, "search", str(file), "--approve"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert search.stderr is not None
        assert "waits for your decision" in until(search.stderr.fileno(), "--reject WORDS")
        shown = json.loads(CliRunner().invoke(app, ["runs", "--json"]).stdout)["runs"][0]
        assert (shown["status"], shown["waiting"], shown["trials"]) == ("running", [1], 2)
        search.kill()
        search.wait()

        assert "interrupted, waits for you: trial 1" in CliRunner().invoke(app, ["show"]).stdout
        waiting = json.loads(command("latest", "--json").stdout)["waiting"]
        assert [one["trial"] for one in waiting] == [1] and waiting[0]["change"] and waiting[0]["parent"] == 0
        assert waiting[0]["design"] in command("latest", "1").stdout
        assert "trial 0 does not wait" in command("latest", "0").stdout
        for wrong, words in (
            (("latest", "9", "--accept"), "no trial 9"),
            (("latest", "0", "--accept"), "does not wait"),
            (("latest", "1", "--accept", "--reject", "no"), "Only one of --accept, --reject"),
            (("latest", "1", "--edit", str(tmp_path / "none.json")), "neither a JSON object nor a file"),
            (("latest", "--edit", '{"hidden_size": 7}'), "hidden_size 7 is not allowed"),
        ):
            result = command(*wrong)
            assert result.exit_code == 2 and words in result.stderr and "Traceback" not in result.stderr
        assert decide_at_once() == ["decided", "Trial 1 of run"]
        assert "trial 1 does not wait" in command("latest", "1").stdout

        ours, theirs = pty.openpty()
        resumed = subprocess.Popen([*PENJING, "resume"], stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        said = until(ours, "or [r]eject?")
        assert "Trial 2 of" in said
        assert [request for request in server.requests if WORDS in str(request.body["messages"][-1]["content"])]
        os.write(ours, b"e\n")
        said = until(ours, "or [r]eject?")
        assert "hidden_size 7 is not allowed" in said, "told, and asked again"
        os.write(ours, b"a\n")
        until(ours, "trial 2 is accepted")
        until(ours, "Type next:")
        resumed.wait()
    session = SearchSession.open("latest")
    assert session.record.status == "finished"
    assert [trial.measurement is not None for trial in session.trials()] == [True, False, True]
    shown = CliRunner().invoke(app, ["show"]).stdout
    assert "rejected by you" in shown and "rejected 1, edited 0" in shown


def decide_at_once() -> list[str]:
    """Two users decide on trial 1 at the same moment: what each is told."""
    start, told = threading.Barrier(2), list[str]()

    def decide() -> None:
        session = SearchSession.open("latest")
        start.wait()
        try:
            session.decide(1, "reject", words=WORDS)
            told.append("decided")
        except InputError as error:
            assert str(error).endswith("was rejected already.")
            told.append(str(error)[:14])
        session.close()

    threads = [threading.Thread(target=decide) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(told, reverse=True)
