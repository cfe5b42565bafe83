"""Trials go into the vector store before it is asked, and what a killed process had not put in is put in later."""

from pathlib import Path

from memory.rebuild import open_vectors
from memory.records import Records
from memory.tables import Run
from memory.trial_index import TrialIndex
from tests.memory.conftest import finish, make_design


def filled(folder: Path, count: int) -> Records:
    """Records of a run with `count` finished trials."""
    records = Records.open(folder / "records.sqlite")
    source = make_design().model_dump(mode="json")
    records.create_run(Run(id="run-a", source="tiny", corpus="text", source_architecture=source))
    for turn in range(count):
        finish(records, "run-a", turn, make_design(ffn=(8 * turn + 8, 128)), 3.0, rationale=[f"widen by {turn}"])
    return records


def test_they_wait_until_they_are_wanted(tmp_path: Path) -> None:
    with (
        filled(tmp_path, 3) as records,
        open_vectors(tmp_path / "vectors", tmp_path / "private", Records.open(tmp_path / "none.sqlite")) as store,
    ):
        records.add_prompt("hash", "design", "make one")
        index = TrialIndex(records, store, "run-a")
        index.write()
        index.note([0, 2])
        assert store.counts()["architectures"] == 0
        index.write()
        assert store.ids("architectures") == {"run-a/0", "run-a/2"}
        assert store.ids("lessons") == {"run-a/0/0", "run-a/2/0"} and store.ids("prompts") == {"hash"}
        index.write()
        assert store.counts()["architectures"] == 2


def test_not_too_many_wait(tmp_path: Path) -> None:
    with (
        filled(tmp_path, 33) as records,
        open_vectors(tmp_path / "vectors", tmp_path / "private", Records.open(tmp_path / "none.sqlite")) as store,
    ):
        index = TrialIndex(records, store, "run-a")
        for number in range(33):
            index.note([number])
        assert store.counts()["architectures"] == 32


def test_the_next_opening_puts_in_those_that_waited_in_a_killed_process(tmp_path: Path) -> None:
    with filled(tmp_path, 3) as records:
        with open_vectors(tmp_path / "vectors", tmp_path / "private", records):
            pass
        finish(records, "run-a", 3, make_design(hidden=32), 3.0)
        with open_vectors(tmp_path / "vectors", tmp_path / "private", records) as store:
            assert store.ids("architectures") == {f"run-a/{number}" for number in range(4)}
