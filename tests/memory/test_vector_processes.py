"""Records and vectors under processes that are killed while they write, and under two that write at once."""

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from memory.progress import HALF_WRITTEN, MADE_AGAIN
from memory.rebuild import open_vectors
from memory.records import Records
from memory.vectors import VectorStore

ROOT = Path(__file__).parents[2]


def remembering(folder: Path, run_id: str, count: int, lines: int) -> "subprocess.Popen[str]":
    arguments = [folder / "records.db", folder / "vectors", folder / run_id / "vectors", run_id, count, lines]
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("remembering.py")), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def agree(records: Records, store: VectorStore) -> None:
    """Ids, not only counts: in Chroma, in the tables, and in what is told of both."""
    trials = records.indexed_trials()
    names = {f"{run}/{number}": lines for run, rows in trials.items() for number, lines in rows.items()}
    there = {name: set(collection.get(include=[])["ids"]) for name, collection in store._collections.items()}
    assert there["architectures"] | there["failures"] == names.keys()
    assert there["lessons"] == {f"{name}/{line}" for name, lines in names.items() for line in range(lines)}
    assert store._tables is not None and len(store._tables._tables) == 4
    for name, ids in there.items():
        assert store._tables._tables[name].ids() == store.ids(name) == ids
        assert store.count(name) == len(ids) and store.ids(name, [*sorted(ids)[:3], "none"]) == set(sorted(ids)[:3])


def walk(store: VectorStore) -> None:
    """Chroma's own indexes lead from one entry to the others."""
    for name, collection in store._collections.items():
        if count := min(collection.count(), 5000):
            first = np.asarray(collection.get(limit=1, include=["embeddings"])["embeddings"])
            found = collection.query(query_embeddings=first, n_results=count, include=[])
            assert len(found["ids"][0]) > 0.95 * count, name


def kill_while_writing(folder: Path, kills: int) -> None:
    delays, acknowledged, told = random.Random(kills), set[str](), list[str]()
    for round_ in range(kills):
        # So many lessons that Chroma writes its index to the disk now and then.
        process = remembering(folder, f"run-{round_}", 100_000, 60)
        assert process.stdout is not None and process.stdout.readline().strip() == str(folder / "vectors")
        acknowledged.add(process.stdout.readline().strip())
        time.sleep(delays.uniform(0.0, 1.5))
        process.send_signal(signal.SIGKILL)
        # `communicate` would pass over what was read ahead. The last line may have been cut by the kill.
        rest = process.stdout.read()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, errors
        acknowledged.update(rest[: rest.rfind("\n") + 1].split())
        with Records.open(folder / "records.db") as records:
            written = {view.name for past in records.runs() for view in records.trials(past.id) if view.measurement}
            assert acknowledged <= written
            listen = partial(_hear, told)
            with open_vectors(folder / "vectors", folder / "private", records, told=listen) as store:
                assert store.folder == folder / "vectors"
                agree(records, store)
                walk(store)
                newest = sorted(acknowledged)[-1]
                (found,) = store.lessons(newest, 1, {"run_id": newest.partition("/")[0]})
                assert found.text.startswith(newest.partition("/")[0])
        assert MADE_AGAIN not in told, "what is half written is known"
    print(f"{kills} kills, {told.count(HALF_WRITTEN)} of them in the middle of a write")
    assert told.count(HALF_WRITTEN) > 0


def _hear(told: list[str], what: str, *_: int) -> None:
    told.append(what)


def test_records_and_vectors_agree_after_kill_9(tmp_path: Path) -> None:
    kill_while_writing(tmp_path, 4)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_records_and_vectors_agree_after_50_times_kill_9(tmp_path: Path) -> None:
    kill_while_writing(tmp_path, 50)


def test_two_at_once_lose_nothing_and_each_finds_its_own(tmp_path: Path) -> None:
    processes = [remembering(tmp_path, f"run-{index}", 30, 2) for index in range(2)]
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    lines = [output.split() for output, _ in said]
    assert str(tmp_path / "vectors") in {line[0] for line in lines}
    for index, (_, *names) in enumerate(lines):
        assert names == [f"run-{index}/{number}" for number in range(30)]
    with Records.open(tmp_path / "records.db") as records:
        with open_vectors(tmp_path / "vectors", tmp_path / "private", records) as store:
            agree(records, store)
            assert store.counts()["architectures"] == 60


def test_a_second_process_starts_from_what_the_first_has_written(tmp_path: Path) -> None:
    first = remembering(tmp_path, "run-0", 100_000, 30)
    assert first.stdout is not None
    assert first.stdout.readline().strip() == str(tmp_path / "vectors")
    seen = [first.stdout.readline().strip() for _ in range(10)]
    # The first goes on writing while it is copied.
    second = remembering(tmp_path, "run-1", 5, 1)
    told, errors = second.communicate(timeout=120)
    assert second.returncode == 0, errors
    assert told.split() == [str(tmp_path / "run-1" / "vectors"), *(f"run-1/{number}" for number in range(5))]
    assert not (tmp_path / "run-1" / "vectors").exists()
    first.kill()
    rest = first.stdout.read()
    first.communicate(timeout=60)
    assert len(seen) + len(rest.split()) > 10
    with Records.open(tmp_path / "records.db") as records:
        with open_vectors(tmp_path / "vectors", tmp_path / "private", records) as store:
            agree(records, store)
            assert set(seen) <= store.ids("architectures")
