"""A run is forgotten with all that belongs to it alone, and nothing of other runs goes with it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlmodel import col

from memory.forgetting import forget_run, what_goes
from memory.pattern_records import PatternPlace, RecordedTest
from memory.rebuild import open_vectors
from memory.records import Records
from memory.tables import Call, Evaluation, Pattern, Proposal, Run, Span, Table
from memory.views import TrialView
from tests.postgresql import both_databases
from tools.architecture import Architecture
from tools.errors import InputError

new_database = both_databases

Finish = Callable[..., TrialView]
CANARY = "canary-words-of-run-b"


@pytest.fixture
def two_runs(filled: Records, finish_trial: Finish, design: Callable[..., Architecture]) -> Records:
    """run-b found an evaluation of run-a, and run-a one of run-b; each tests a pattern of the other."""
    source = design().model_dump(mode="json")
    filled.create_run(Run(id="run-b", source="tiny", corpus="docs", source_architecture=source))
    mine = filled.trial("run-a", 0)
    theirs = finish_trial(filled, "run-b", 0, design(hidden=32), 3.5, rationale=[CANARY], prompt_hash="own")
    for run, turn, view in (("run-b", 1, mine), ("run-a", 8, theirs)):
        proposal = Proposal(run_id=run, turn=turn, stage="judge", proposer="random", outcome="valid")
        trial = filled.add_trial(filled.add_proposal(proposal).id, view.architecture)
        assert filled.reuse_evaluation(trial.id, str(view.evaluation_key))
    places = {run: PatternPlace(filled.trial(run, 0).proposal_id, 0) for run in ("run-a", "run-b")}
    patterns = [
        Pattern(run_id="run-a", proposal_id=places["run-a"][0], line=0, text="kept", drawn_from=["run-a/0"]),
        Pattern(run_id="run-b", proposal_id=places["run-b"][0], line=0, text=CANARY, drawn_from=["run-b/0"]),
        Pattern(run_id="run-a", proposal_id=places["run-a"][0], line=1, text="mixed", drawn_from=["run-b/0"]),
    ]
    tests = [
        RecordedTest(places["run-a"], filled.trial("run-b", 1).trial_id, "support"),
        RecordedTest(places["run-a"], filled.trial("run-a", 5).trial_id, "support"),
        RecordedTest(places["run-b"], filled.trial("run-a", 5).trial_id, "contradiction"),
    ]
    filled.record_patterns(patterns, tests)
    filled.add_prompt("own", "evolver", f"A prompt of its own, {CANARY}")
    filled.add_call(Call(run_id="run-b", turn=0, agent="evolver", model="m", answer=CANARY, prompt_hash="own"))
    filled.add_call(Call(run_id="run-b", turn=1, agent="evolver", model="m", prompt_hash="abc"))
    filled.add_call(Call(run_id="run-a", turn=1, agent="evolver", model="m", prompt_hash="abc"))
    filled.add_event("run-b", "stage", {"kind": "stage", "message": CANARY})
    with filled.writing() as session:
        session.add(Span(id="s", run_id="run-b", name=CANARY, kind="CHAIN"))
    return filled


def test_what_other_runs_use_stays(two_runs: Records) -> None:
    before = two_runs.trials("run-a")
    plan = what_goes(two_runs, "run-b")
    gone = forget_run(two_runs, "run-b")
    assert plan == gone
    assert (gone.trials, gone.proposals, gone.calls, gone.events, gone.patterns) == (2, 2, 2, 1, 2)
    assert (gone.evaluations, gone.evaluations_kept, gone.prompts) == (0, 1, 1)
    assert two_runs.trials("run-a") == before, "also the one whose evaluation run-b paid for"
    kept = two_runs.evaluation(str(before[8].evaluation_key))
    assert kept is not None and kept.run_id is None
    assert [prompt.hash for prompt in two_runs.prompts()] == ["abc"]
    assert [one.pattern.text for one in two_runs.patterns("run-a")] == ["kept"]
    with two_runs.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM patterntest").scalar() == 1
    with pytest.raises(InputError, match="no run 'run-b'"):
        forget_run(two_runs, "run-b")


def test_nothing_of_the_run_is_left_in_any_table_or_file(two_runs: Records, tmp_path: Path) -> None:
    def holding() -> list[str]:
        return [path.name for path in tmp_path.glob("records.db*") if CANARY.encode() in path.read_bytes()]

    on_sqlite = two_runs.engine.dialect.name == "sqlite"
    assert bool(holding()) == on_sqlite, "the words can be found in the files"
    forget_run(two_runs, "run-b")
    with two_runs.engine.connect() as connection:
        for table in Table.metadata.sorted_tables:
            if "run_id" in table.c:
                assert not connection.execute(table.select().where(table.c.run_id == "run-b")).all(), table.name
    assert holding() == []


def test_what_nobody_has_any_more_goes_with_the_last_that_used_it(two_runs: Records) -> None:
    key = str(two_runs.trial("run-a", 8).evaluation_key)
    forget_run(two_runs, "run-b")
    gone = forget_run(two_runs, "run-a")
    assert gone.evaluations == 9 and key.partition("/")[0] in gone.folders and len(gone.folders) == 9
    with two_runs.engine.connect() as connection:
        for table in Table.metadata.sorted_tables:
            assert not connection.execute(table.select()).all(), table.name


def test_a_folder_that_another_evaluation_has_stays(
    records: Records, finish_trial: Finish, design: Callable[..., Architecture]
) -> None:
    records.create_run(Run(id="run-b"))
    paid = finish_trial(records, "run-a", 0, design(), 3.0)
    failed = finish_trial(records, "run-b", 0, design(), None)
    with records.engine.begin() as connection:
        key = f"{paid.evaluation_key}/{failed.name}"
        connection.execute(update(Evaluation).where(col(Evaluation.run_id) == "run-b").values(key=key))
    assert forget_run(records, "run-b").folders == [], "its files are beside those of run-a's evaluation"
    assert forget_run(records, "run-a").folders == [paid.evaluation_key]


def test_its_vectors_go(two_runs: Records, places: tuple[Path, Path]) -> None:
    with open_vectors(*places, two_runs) as store:
        assert "run-b/0" in store.ids("architectures") and "run-b/0/0" in store.ids("lessons")
    forget_run(two_runs, "run-b")
    with open_vectors(*places, two_runs) as store:
        assert not [id for id in store.ids("architectures") | store.ids("lessons") if id.startswith("run-b/")]
        assert store.ids("prompts") == {"abc"} and store.counts() == two_runs.indexed_counts()
