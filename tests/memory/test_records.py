"""Records: round trips, idempotence, immutability, places that cannot be used."""

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from memory.bulk_records import FinishedTrial
from memory.records import Records
from memory.tables import Call, Evaluation, FinishedTrialError, Proposal, Run, Trial
from memory.views import TrialView
from tests.postgresql import NewDatabase, both_databases
from tools.architecture import Architecture
from tools.errors import InputError
from tools.measurement import Measurement

new_database = both_databases

Finish = Callable[..., TrialView]
Design = Callable[..., Architecture]


def proposal(turn: int = 0, **fields: object) -> Proposal:
    return Proposal(
        **{"run_id": "run-a", "turn": turn, "stage": "start", "proposer": "greedy", "outcome": "valid", **fields}
    )


def test_a_trial_comes_back_as_it_was_written(records: Records, design: Design, finish_trial: Finish) -> None:
    architecture = design(ffn=(96, 32))
    finish_trial(records, "run-a", 0, design(), 5.0)
    view = finish_trial(
        records, "run-a", 1, architecture, 4.5, parent_number=0, based_on=[0], rationale=["a", "b"], forecast=4.6
    )
    assert view == records.trials("run-a")[1] == records.trials("run-a", {1})[0]
    assert (view.number, view.parent_number, view.based_on, view.rationale) == (1, 0, (0,), ("a", "b"))
    assert (view.architecture, view.loss, view.succeeded, view.forecast) == (architecture, 4.5, True, 4.6)
    assert view.created_at.utcoffset() == timedelta(0)


def test_designs_of_one_turn_have_places_of_their_own(records: Records, design: Design, finish_trial: Finish) -> None:
    first = records.add_proposal(proposal())
    second = records.add_proposal(proposal(candidate=1))
    assert first.id != second.id and records.add_proposal(proposal(candidate=1, raw="again")).id == second.id
    view = finish_trial(records, "run-a", 1, design(), 4.5, expected_score=4.4, expected_deviation=0.2)
    assert (view.expected_score, view.expected_deviation) == (4.4, 0.2)


def test_what_other_runs_measured_alike_before(records: Records, design: Design, finish_trial: Finish) -> None:
    alike = {"recipe": {"training_steps": 2}, "data": {"block_length": 32}}
    asked = {"objective": "accuracy", "objective_tasks": ["piqa"], "objective_limit": 10, "task_data": None}
    runs: dict[str, tuple[str, dict[str, object]]] = {
        "alike": ("docs", {**alike, "seed": 7, "trials": 3}),
        "longer": ("docs", {**alike, "recipe": {"training_steps": 3}}),
        "corpus": ("news", alike),
        "own": ("docs", alike),
        "accuracy": ("docs", {**alike, **asked}),
        "later": ("docs", alike),
    }
    for place, (name, (corpus, config)) in enumerate(runs.items()):
        records.create_run(Run(id=name, source="tiny", corpus=corpus, config=config))
        finish_trial(records, name, 0, design(hidden=8 * (place + 2)), 4.0 + place)
    failed = finish_trial(records, "alike", 1, design(hidden=8), None)
    assert failed.loss is None
    found = records.comparable_trials("own")
    assert [(view.run_id, view.loss) for view in found] == [("alike", 4.0)]
    assert records.comparable_trials("alike") == [], "a run learns nothing from what came after its start"
    assert [view.run_id for view in records.comparable_trials("later")] == ["accuracy", "own", "alike"]
    assert [view.run_id for view in records.comparable_trials("later", limit=1)] == ["accuracy"]
    assert {view.goal.objective for view in records.comparable_trials("later")} == {"loss"}
    assert records.comparable_trials("accuracy") == [], "the others measured no accuracy"
    with pytest.raises(InputError, match="there is no run"):
        records.comparable_trials("nobody")


def test_an_unfinished_and_a_failed_trial_have_no_loss(records: Records, design: Design, finish_trial: Finish) -> None:
    failed = finish_trial(records, "run-a", 0, design(), None)
    records.add_trial(records.add_proposal(proposal(1)).id, design())
    waiting = records.trial("run-a", 1)
    assert (failed.succeeded, failed.loss) == (False, None)
    assert failed.measurement is not None and failed.measurement.failure is not None
    assert (waiting.measurement, waiting.evaluation_key, waiting.succeeded) == (None, None, False)
    assert [view.number for view in records.past_trials("tiny", "docs")] == [0]


def test_repeating_a_write_changes_nothing(records: Records, design: Design) -> None:
    first = records.add_proposal(proposal(raw="first"))
    again = records.add_proposal(proposal(raw="second"))
    assert (again.id, again.raw) == (first.id, "first")
    trial = records.add_trial(first.id, design())
    assert records.add_trial(first.id, design(hidden=32)).model_dump() == trial.model_dump()
    assert records.add_prompt("h", "name", "text").text == records.add_prompt("h", "other", "other").text == "text"
    assert len(records.proposals("run-a")) == len(records.trials("run-a")) == len(records.prompts()) == 1


def test_the_same_evaluation_is_kept_once(records: Records, design: Design) -> None:
    records.create_run(Run(id="run-b"))

    def evaluation(run_id: str, loss: float) -> Evaluation:
        measurement = Measurement(fidelity="quick", parameters=5_000_000_000, loss=loss, training_losses=(1.0, loss))
        return Evaluation(
            key="k",
            run_id=run_id,
            architecture_hash=design().hash,
            architecture=design().model_dump(mode="json"),
            fidelity="quick",
            status="done",
            loss=loss,
            parameters=5_000_000_000,
            measurement=measurement.model_dump(mode="json"),
        )

    assert records.evaluation("k") is None
    paid = records.add_evaluation(evaluation("run-a", 3.0))
    other = records.add_evaluation(evaluation("run-b", 9.0))
    assert (other.id, other.run_id, other.loss) == (paid.id, "run-a", 3.0)
    found = records.evaluation("k")
    assert found is not None and Measurement.model_validate(found.measurement).loss == 3.0


def test_a_finished_trial_cannot_be_changed(records: Records, design: Design, finish_trial: Finish) -> None:
    first = finish_trial(records, "run-a", 0, design(), 5.0)
    second = finish_trial(records, "run-a", 1, design(hidden=32), 4.0)
    key = second.evaluation_key
    assert key is not None
    other = records.evaluation(key)
    mine = records.evaluation(str(first.evaluation_key))
    assert other is not None and mine is not None
    records.finish_trial(first.trial_id, mine.id, cached=False)
    with pytest.raises(FinishedTrialError, match="trial 0 of run run-a"):
        records.finish_trial(first.trial_id, other.id, cached=True)
    with pytest.raises(FinishedTrialError), records.writing() as session:
        trial = session.exec(select(Trial).where(Trial.id == first.trial_id)).one()
        trial.stage = "rewritten"
    assert records.trials("run-a") == (first, second)


def test_many_at_once_are_as_one_by_one(records: Records, design: Design, finish_trial: Finish) -> None:
    first = finish_trial(records, "run-a", 0, design(), 4.0, rationale=["a \ud800 lone surrogate"])
    source = records.evaluation("run-a-" + first.identity + "-0")
    assert source is not None
    bulk = [
        FinishedTrial(
            proposal(turn, rationale=["a NUL \x00"] if turn == 1 else []),
            design(ffn=(16 * turn, 32)),
            Evaluation(**{**source.model_dump(exclude={"id"}), "key": f"bulk-{turn}"}),
            cached=turn == 2,
        )
        for turn in range(1, 4)
    ]
    assert records.add_finished_trials("run-a", bulk) == [(1, True), (2, True), (3, True)]
    assert records.add_finished_trials("run-a", bulk) == [(1, False), (2, False), (3, False)]
    assert records.add_finished_trials("run-a", bulk[:1]) == [(1, False)]
    views = records.trials("run-a")
    assert [(view.number, view.evaluation_key) for view in views[1:]] == [(n, f"bulk-{n}") for n in (1, 2, 3)]
    assert [view.architecture for view in views[1:]] == [entry.architecture for entry in bulk]
    assert [view.cached for view in views] == [False, False, True, False]
    assert views[1].rationale == ("a NUL \N{REPLACEMENT CHARACTER}",) and views[0].rationale == ("a ? lone surrogate",)
    assert finish_trial(records, "run-a", 9, design(hidden=32), 3.0).number == 4
    with pytest.raises(InputError, match="no run 'run-z'"):
        records.add_finished_trials("run-z", bulk)


def test_numbers_are_given_per_run_from_zero(records: Records, design: Design, finish_trial: Finish) -> None:
    records.create_run(Run(id="run-b", source="other"))
    numbers = [
        finish_trial(records, run, turn, design(), 1.0).number for turn in range(3) for run in ("run-a", "run-b")
    ]
    assert numbers == [0, 0, 1, 1, 2, 2]
    assert [(view.run_id, view.number) for view in records.past_trials(exclude_run="run-a", limit=2)] == [
        ("run-b", 2),
        ("run-b", 1),
    ]
    assert {view.run_id for view in records.past_trials(source="tiny")} == {"run-a"}


def test_runs_are_found_by_the_beginning_of_their_id(records: Records) -> None:
    records.create_run(Run(id="run-abc"))
    records.create_run(Run(id="x_y"))
    assert records.run().id == records.run("latest").id == "x_y"
    assert (records.run("run-a").id, records.run("run-ab").id, records.run("x").id) == ("run-a", "run-abc", "x_y")
    assert [run.id for run in records.runs()] == ["x_y", "run-abc", "run-a"]
    with pytest.raises(InputError, match=r"penjing runs"):
        records.run("x%")
    with pytest.raises(InputError, match=r"run-a, run-abc"):
        records.run("run")
    with pytest.raises(InputError, match="exists already"):
        records.create_run(Run(id="x_y"))


def test_a_run_without_runs_is_a_clear_error(new_database: NewDatabase) -> None:
    with Records.open(new_database()) as empty, pytest.raises(InputError, match="penjing search"):
        empty.run("latest")


def test_runs_and_proposals_change(records: Records) -> None:
    records.update_run("run-a", status="finished", result={"best": [1, None]})
    assert (records.run("run-a").status, records.run("run-a").result) == ("finished", {"best": [1, None]})
    made = records.add_proposal(proposal())
    records.update_proposal(made.id, outcome="rejected", problems=["too large"])
    assert records.proposal(made.id).problems == ["too large"]
    with pytest.raises(AttributeError, match="colour"):
        records.update_run("run-a", colour="green")
    with pytest.raises(InputError, match="nothing"):
        records.update_run("nothing", status="failed")
    with pytest.raises(KeyError):
        records.proposal(999)


def test_what_models_write_is_kept_whatever_it_is(records: Records) -> None:
    made = records.add_proposal(proposal(raw="\ud800\x00 'quoted\"", parsed={"a": [float("nan"), "\udfff"]}))
    assert records.proposal(made.id).raw == "?\N{REPLACEMENT CHARACTER} 'quoted\""
    assert records.proposal(made.id).parsed == {"a": ["NaN", "?"]}
    call = Call(run_id="run-a", turn=0, agent="evolver", model="m", messages=[{"role": "user", "content": "\ud800"}])
    records.add_call(call)
    assert [kept.messages for kept in records.calls("run-a")] == [[{"role": "user", "content": "?"}]]


def test_threads_number_trials_without_gaps(records: Records, design: Design, finish_trial: Finish) -> None:
    def write(first: int) -> None:
        for turn in range(first, first + 10):
            finish_trial(records, "run-a", turn, design(ffn=(8, turn + 1)), 1.0)

    threads = [threading.Thread(target=write, args=(100 * index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [view.number for view in records.trials("run-a")] == list(range(40))


def test_unusable_places_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "garbage.db").write_bytes(b"no database at all " * 500)
    for place in (
        tmp_path / "file" / "records.db",
        tmp_path,
        tmp_path / "garbage.db",
        "nonsense://x",
    ):
        with pytest.raises(InputError) as caught:
            Records.open(place)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="psycopg"):
        Records.open("postgresql+psycopg://user:secret@localhost/db")


def test_what_another_run_paid_for_is_a_hit(
    records: Records, design: Callable[..., Architecture], finish_trial: Callable[..., TrialView]
) -> None:
    paid = finish_trial(records, "run-a", 0, design(), 3.0)
    records.create_run(Run(id="run-b"))
    proposal = records.add_proposal(
        Proposal(run_id="run-b", turn=0, stage="greedy", proposer="greedy", outcome="valid")
    )
    trial = records.add_trial(proposal.id, design())
    assert not records.reuse_evaluation(trial.id, "unknown") and records.trial("run-b", 0).measurement is None
    assert records.reuse_evaluation(trial.id, str(paid.evaluation_key))
    found = records.trial("run-b", 0)
    assert found.cached and found.measurement == paid.measurement
    assert records.reuse_evaluation(trial.id, "unknown"), "it has one already"
    assert records.trial("run-b", 0) == found
    with pytest.raises(KeyError):
        records.reuse_evaluation(99, str(paid.evaluation_key))


def test_what_a_killed_process_had_paid_for_this_trial_is_no_hit(
    records: Records, design: Callable[..., Architecture], finish_trial: Callable[..., TrialView]
) -> None:
    finish_trial(records, "run-a", 0, design(), 3.0)
    other = design(hidden=32)
    evaluation = records.add_evaluation(
        Evaluation(
            key="paid",
            run_id="run-a",
            architecture_hash=other.hash,
            architecture=other.model_dump(mode="json"),
            fidelity="quick",
            status="done",
            loss=2.0,
            parameters=other.parameters,
            measurement=Measurement(fidelity="quick", parameters=other.parameters, loss=2.0).model_dump(mode="json"),
        )
    )
    trials = []
    for turn in (1, 2):
        fields = {"stage": "judge", "proposer": "random", "outcome": "valid"}
        proposal = records.add_proposal(Proposal(run_id="run-a", turn=turn, **fields))
        trials.append(records.add_trial(proposal.id, other))
    assert [records.reuse_evaluation(trial.id, evaluation.key) for trial in trials] == [True, True]
    assert [view.cached for view in records.trials("run-a")] == [False, False, True]


def test_finished_trials_are_not_changed_in_bulk(
    records: Records, design: Callable[..., Architecture], finish_trial: Callable[..., TrialView]
) -> None:
    before = finish_trial(records, "run-a", 0, design(), 3.0)
    waiting = records.add_trial(records.add_proposal(proposal(turn=1)).id, design(hidden=32))
    everyone, first = update(Trial).values(stage="judge"), col(Trial.number) == 0
    for statement in (everyone, everyone.where(first)):
        with pytest.raises(FinishedTrialError, match="trial 0 of run run-a"), records.writing() as session:
            session.execute(statement)
    with pytest.raises(FinishedTrialError), records.writing() as session:
        session.execute(update(Trial), [{"id": before.trial_id, "stage": "judge"}])
    with records.writing() as session:
        session.execute(everyone.where(col(Trial.id) == waiting.id))
        session.execute(update(Trial), [{"id": waiting.id, "cached": True}])
    assert records.trial("run-a", 0) == before
    after = records.trial("run-a", 1)
    assert (after.stage, after.cached) == ("judge", True)
