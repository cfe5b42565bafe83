"""Two real searches at once on one home: nothing is lost, nothing is locked, and nothing is paid twice."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from memory.records import Records

PENJING = [sys.executable, "-m", "penjing.main"]


@pytest.mark.slow
def test_two_searches_at_once(settings_of: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    plain = settings_of(tmp_path, trials=3, llm_share=0.0)
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(plain))
    environment = {**os.environ, "PENJING_HOME": plain["home"], "OMP_NUM_THREADS": "1"}
    searches = [
        subprocess.Popen(
            [*PENJING, "search", str(file), "--json"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [search.communicate(timeout=280) for search in searches]
    assert [search.returncode for search in searches] == [0, 0], said
    documents = [json.loads(output) for output, _ in said]
    # The same judge with the same seed wants the same designs: one search pays, the other one waits or finds it.
    trials = [document["trials"] for document in documents]
    for pair in zip(*trials, strict=True):
        assert sorted(row["cached"] for row in pair) == [False, True]
        assert pair[0]["architecture"] == pair[1]["architecture"]
        assert pair[0]["evaluation_key"] == pair[1]["evaluation_key"]
    assert sum(document["cache"]["hits"] for document in documents) == 3
    with Records.open(Path(plain["home"]) / "records.sqlite") as records:
        runs = [run.id for run in records.runs()]
        assert len(runs) == 2 and sum(len(records.evaluations(run)) for run in runs) == 3
        for run, document in zip(sorted(runs), sorted(documents, key=lambda one: one["run"]), strict=True):
            assert run == document["run"] and records.run(run).status == "finished"
            assert [row.trial for row in records.events(run) if row.kind == "evaluation"] == [0, 1, 2]
