"""`penjing show RUN --events`: what was printed before a search was killed is on record, and goes on after a resume."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

PENJING = [sys.executable, "-m", "penjing.main"]


@pytest.mark.slow
def test_no_printed_event_is_lost_to_kill_9(settings_of: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    plain = settings_of(tmp_path, trials=3, llm_share=0.0)
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(plain))
    environment = {**os.environ, "PENJING_HOME": plain["home"], "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> str:
        return subprocess.run(
            [*PENJING, *arguments], env=environment, capture_output=True, text=True, check=True
        ).stdout

    search = subprocess.Popen(
        [*PENJING, "search", str(file)], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert search.stderr is not None
    printed = []
    for line in search.stderr:
        printed.append(line.rstrip("\n"))
        if line.startswith("turn 1:"):
            break
    search.kill()
    rest, _ = search.stderr.read(), search.wait()
    printed += rest.split("\n")[:-1]

    before = json.loads(run("show", "latest", "--events", "--json"))["events"]
    texts = [event["text"] for event in before]
    # Ticks of progress are `trial N: PHASE` and `survey: PHASE`; all else that was printed is an event.
    told = [line for line in printed if line.startswith(("source: ", "turn ")) or " parameters, loss " in line]
    assert len(told) >= 4 and [line for line in told if line in texts] == told
    assert {"kind", "at", "text", "run"} <= before[0].keys() and "progress" not in {event["kind"] for event in before}

    run("resume", "latest")
    after = json.loads(run("show", "latest", "--events", "--json"))["events"]
    assert after[: len(before)] == before, "what happened stays"
    assert after[-1]["kind"] == "finished"
    assert [event["trial"] for event in after if event["kind"] == "evaluation"][-2:] == [1, 2]
    when = datetime.fromisoformat(after[-1]["at"]).astimezone()
    assert f"{when:%Y-%m-%d %H:%M:%S}  {after[-1]['text']}" in run("show", "latest", "--events").splitlines()
    assert "events" not in json.loads(run("show", "latest", "--json"))
