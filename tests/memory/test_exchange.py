"""Runs on their way to another home: whole, idempotent, and nothing is taken in of what is wrong."""

import io
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from memory.claim_words import read_claim
from memory.exchange import export_lines
from memory.exchange_format import KINDS, TABLES
from memory.importing import ImportReport, import_records
from memory.pattern_records import PatternPlace, RecordedTest
from memory.records import Records
from memory.tables import Call, Evaluation, Pattern, Proposal, Run, Table
from tests.memory.conftest import Design, climb, finish, make_design
from tools.errors import InputError

Copy = Callable[[str], Records]
"""Opens a copy of records that hold two runs, `two`, or nothing, `empty`."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def copied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        with Records.open(server.database(name="two")) as records:
            fill(records)
        return lambda name: Records.open(server.database("two" if name == "two" else "tables"))
    folder, numbers = tmp_path_factory.mktemp("exchange"), itertools.count()
    Records.open(folder / "empty.db").close()
    with Records.open(folder / "two.db") as records:
        fill(records)
    return lambda name: Records.open(shutil.copy(folder / f"{name}.db", folder / f"copy{next(numbers)}.db"))


def fill(records: Records) -> None:
    """Run run-a with eight trials, and run-b that found one evaluation of it; something of every kind."""
    source = make_design().model_dump(mode="json")
    config = {"home": "/somewhere", "trials": 8, "task_data": "/else"}
    records.create_run(Run(id="run-a", source="tiny", corpus="docs", config=config, source_architecture=source))
    for turn in range(8):
        ffn, loss = (128, 16 * (turn + 1)), None if turn == 3 else 4.0 - 0.1 * turn
        finish(records, "run-a", turn, make_design(ffn=ffn), loss, parent_number=turn - 1 if turn else None)
    records.add_prompt("abc", "evolver", "You design compact language models.")
    ladder = {"fidelities": ["one_shot", "short_training"]}
    records.create_run(
        Run(id="run-b", source="tiny", corpus="docs", source_architecture=source, status="finished", config=ladder)
    )
    first = records.trial("run-a", 0)
    known = records.add_proposal(
        Proposal(
            run_id="run-b",
            turn=0,
            stage="greedy",
            proposer="greedy",
            outcome="valid",
            prompt_hash="abc",
            retrieved=[{"kind": "nearby", "id": "run-a/1", "distance": 0.5}],
        )
    )
    trial = records.add_trial(known.id, first.architecture)
    assert records.reuse_evaluation(trial.id, str(first.evaluation_key))
    late = finish(records, "run-b", 1, make_design(ffn=(96, 32)), 3.0, rationale=["narrow the late FFN"])
    climb(records, late, 2.5, "short_training")
    waiting = records.add_proposal(Proposal(run_id="run-b", turn=2, stage="judge", proposer="tpe", outcome="valid"))
    records.add_trial(waiting.id, make_design(hidden=32))
    place = PatternPlace(records.trial("run-a", 4).proposal_id, 0)
    claim = read_claim("narrow the late FFN", 2)
    assert claim is not None
    pattern = Pattern(
        run_id="run-a",
        proposal_id=place.proposal_id,
        line=0,
        text="narrow",
        claim=claim.model_dump(mode="json"),
        drawn_from=["run-a/1", "run-a/2"],
    )
    records.record_patterns([pattern], [RecordedTest(place, late.trial_id, "support")])
    message = {"role": "user", "content": "design"}
    records.add_call(Call(run_id="run-b", turn=1, agent="evolver", model="m", messages=[message], prompt_hash="abc"))
    records.add_event("run-b", "stage", {"kind": "stage", "run": "run-b", "stage": "survey", "message": "surveying"})


@pytest.fixture
def two_runs(copied: Copy) -> Iterator[Records]:
    with copied("two") as opened:
        yield opened


@pytest.fixture
def other(copied: Copy) -> Iterator[Records]:
    with copied("empty") as opened:
        yield opened


def lines_of(records: Records, *runs: str) -> list[str]:
    return list(export_lines(records, runs or ("run-a", "run-b")))


def taken_in(records: Records, lines: list[str], check_run: Any = lambda _: None) -> ImportReport:
    return import_records(records, io.BytesIO("".join(f"{line}\n" for line in lines).encode()), check_run)


def contents(records: Records) -> dict[str, list[Any]]:
    """All rows of all tables."""
    with records.engine.connect() as connection:
        tables = Table.metadata.sorted_tables
        return {table.name: connection.execute(table.select()).all() for table in tables}


def body(lines: list[str]) -> list[Any]:
    return [json.loads(line) for line in lines[1:-1]]


def test_every_kind_is_a_line_of_its_own(two_runs: Records) -> None:
    kinds = [next(iter(line)) for line in body(lines_of(two_runs))]
    assert set(kinds) == set(KINDS), "something of every kind is tested here"
    assert kinds == sorted(kinds, key=list(KINDS).index)
    # What is not exchanged is named here, so that a new table is thought of.
    assert {table.name for table in Table.metadata.sorted_tables} == {
        *(table.__table__.name for table in TABLES.values()),  # type: ignore[attr-defined]
        "span",
        "approval",
    }


def test_a_copy_has_all_that_the_original_has(two_runs: Records, other: Records) -> None:
    lines = lines_of(two_runs)
    report = taken_in(other, lines)
    assert report.imported == ["run-a", "run-b"] and (report.trials, report.evaluations) == (11, 10)
    for run in ("run-a", "run-b"):
        # Places are left out of settings, also that of local tasks, which is part of the goal.
        alike = {"trial_id", "proposal_id", "goal"}
        before, after = two_runs.trials(run), other.trials(run)
        assert [view.model_dump(exclude=alike) for view in after] == [view.model_dump(exclude=alike) for view in before]
        without_ids = {"id", "trial_id", "proposal_id"}
        for kind in ("proposals", "calls", "events"):
            old, new = getattr(two_runs, kind)(run), getattr(other, kind)(run)
            assert [row.model_dump(exclude=without_ids) for row in new] == [
                row.model_dump(exclude=without_ids) for row in old
            ]
        assert [one.name for one in other.patterns(run)] == [one.name for one in two_runs.patterns(run)]
    with other.engine.connect() as connection:
        (verdict,) = connection.exec_driver_sql(
            "SELECT t.run_id, t.number, p.text, x.verdict FROM patterntest x "
            "JOIN trial t ON t.id = x.trial_id JOIN pattern p ON p.id = x.pattern_id"
        ).all()
    assert verdict == ("run-b", 1, "narrow", "support")
    assert other.prompts() == two_runs.prompts()


def test_imported_runs_are_marked_and_have_no_places(two_runs: Records, other: Records) -> None:
    two_runs.update_run("run-b", result={"best": 1, "export": "/somewhere/model", "picture": "/p.png", "table": []})
    taken_in(other, lines_of(two_runs))
    first, second = other.run("run-a"), other.run("run-b")
    assert first.imported_at is not None and second.imported_at is not None
    assert (first.status, second.status) == ("interrupted", "finished"), "nobody works on it here"
    assert first.config == {"trials": 8}
    assert second.result == {"best": 1, "export": None, "picture": None, "table": []}


def test_ids_are_those_of_this_database(two_runs: Records, other: Records) -> None:
    other.create_run(Run(id="mine"))
    for turn in range(3):
        finish(other, "mine", turn, make_design(hidden=16 * (turn + 1)), 1.0)
    before = other.trials("mine")
    taken_in(other, lines_of(two_runs))
    assert other.trials("mine") == before
    losses = [view.loss for view in two_runs.trials("run-a")]
    assert [view.loss for view in other.trials("run-a")] == losses


def test_importing_again_changes_nothing(two_runs: Records, other: Records) -> None:
    lines = lines_of(two_runs)
    taken_in(other, lines)
    before = contents(other)
    report = taken_in(other, lines)
    assert report.present == ["run-a", "run-b"] and not report.imported and not report.trials
    assert contents(other) == before
    original = contents(two_runs)
    assert taken_in(two_runs, lines).present == ["run-a", "run-b"]
    assert contents(two_runs) == original, "also where the runs were made"


class StoppedError(Exception):
    """A stand-in for the end of a process."""


def test_a_stopped_import_goes_on_and_others_write_between_its_pieces(
    two_runs: Records, other: Records, copied: Copy
) -> None:
    lines = lines_of(two_runs)
    file = io.BytesIO("".join(f"{line}\n" for line in lines).encode())
    whole = copied("empty")
    expected = taken_in(whole, lines)
    pieces = list[int]()

    def write_and_stop(stop: int, number: int) -> None:
        # The first pass over the lines only checks them.
        pieces.append(number)
        piece = len(pieces) - len(lines) + 2
        if piece > 0:
            with Records.open(other.place) as search:
                search.create_run(Run(id=f"search-{stop}-{piece}"))
        if piece == stop:
            raise StoppedError

    for stop in range(1, len(KINDS)):
        pieces.clear()
        file.seek(0)
        if stop < len(KINDS) - 1:
            with pytest.raises(StoppedError):
                import_records(other, file, lambda _: None, partial(write_and_stop, stop))
            assert {other.run(run).status for run in ("run-a", "run-b")} == {"running"}, "not whole yet"
        else:
            report = import_records(other, file, lambda _: None, partial(write_and_stop, 99))
    assert report.imported == expected.imported and report.present == []
    assert {run.id.partition("-")[0] for run in other.runs()} == {"run", "search"}
    assert [other.run(run).status for run in ("run-a", "run-b")] == ["interrupted", "finished"]
    for run in ("run-a", "run-b"):
        assert lines_of(other, run)[1:] == lines_of(whole, run)[1:], "as one that was not stopped"
    before = contents(other)
    assert taken_in(other, lines).present == ["run-a", "run-b"]
    assert contents(other) == before
    whole.close()


def test_one_run_goes_with_the_evaluation_that_it_found(two_runs: Records, other: Records) -> None:
    report = taken_in(other, lines_of(two_runs, "run-b"))
    assert report.imported == ["run-b"] and report.evaluations == 3
    view = other.trial("run-b", 0)
    assert view.cached and view.loss == two_runs.trial("run-a", 0).loss
    paid = other.evaluation(str(view.evaluation_key))
    assert paid is not None and paid.run_id is None
    # The rest comes later, and finds what is here.
    later = taken_in(other, lines_of(two_runs))
    assert later.imported == ["run-a"] and later.present == ["run-b"] and later.known_evaluations == 3
    with other.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM patterntest").scalar() == 1, "between old and new runs"


def test_what_is_here_is_never_overwritten(two_runs: Records, other: Records, design: Design) -> None:
    lines = lines_of(two_runs, "run-b")
    key = str(two_runs.trial("run-a", 0).evaluation_key)
    (line,) = [line["evaluation"] for line in body(lines) if line.get("evaluation", {}).get("key") == key]
    own = {**line["measurement"], "loss": 1.25}
    other.create_run(Run(id="mine"))
    other.add_evaluation(
        Evaluation(**{**line, "run_id": "mine", "loss": 1.25, "measurement": own, "created_at": Run().created_at})
    )
    other.add_prompt("abc", "mine", "my own words")
    taken_in(other, lines)
    assert other.trial("run-b", 0).loss == 1.25 and other.prompt("abc").text == "my own words"


def test_a_taken_name_gives_the_run_a_name_of_its_own(two_runs: Records, other: Records) -> None:
    other.create_run(Run(id="run-a", source="mine"))
    report = taken_in(other, lines_of(two_runs))
    (name,) = report.renamed.values()
    assert report.renamed == {"run-a": name} and name.startswith("run-a-")
    assert other.run("run-a").source == "mine" and len(other.trials(name)) == 8
    assert other.proposals("run-b")[0].retrieved[0]["id"] == f"{name}/1"
    assert other.patterns(name)[0].pattern.drawn_from == [f"{name}/1", f"{name}/2"]
    before = contents(other)
    assert taken_in(other, lines_of(two_runs)).present == [name, "run-b"]
    assert contents(other) == before


def changed(lines: list[str], kind: str, fields: dict[str, Any]) -> tuple[list[str], int]:
    """The lines with fields of the first one of a kind changed, and its number."""
    place = next(place for place, line in enumerate(lines) if line.startswith(f'{{"{kind}"'))
    record = json.loads(lines[place])[kind]
    for name, value in fields.items():
        if value is ...:
            del record[name]
        else:
            record[name] = value
    return [*lines[:place], json.dumps({kind: record}), *lines[place + 1 :]], place + 1


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("header", {"version": 2}, "of version 2"),
        ("header", {"format": "recipes"}, "format"),
        ("run", {"id": "../../etc"}, "run.id"),
        ("run", {"id": ".."}, "run.id"),
        ("run", {"surprise": 1}, "surprise"),
        ("run", {"created_at": "2026-01-01T00:00:00"}, "created_at"),
        ("run", {"source_architecture": {"layers": []}}, "run.fixed"),
        ("run", {"status": "imported"}, "status"),
        ("evaluation", {"key": "../../../home"}, "evaluation.key"),
        ("evaluation", {"key": "a/../b"}, "evaluation.key"),
        ("evaluation", {"loss": 1.0}, "are not those of its measurement"),
        ("evaluation", {"loss": float("nan")}, "loss"),
        ("evaluation", {"status": "failed"}, "are not those of its measurement"),
        ("evaluation", {"architecture_hash": "0" * 16}, "architecture_hash"),
        ("evaluation", {"measurement": {"loss": 1}}, "fidelity"),
        ("evaluation", {"parameters": "7"}, "parameters"),
        ("proposal", {"run_id": "run-c"}, "no run 'run-c'"),
        ("proposal", {"turn": 2**31}, "turn"),
        ("proposal", {"turn": 1.5}, "turn"),
        ("proposal", {"retrieved": [{"kind": "nearby"}]}, "retrieved.0.id"),
        ("trial", {"proposal_id": 999}, "no proposal 999"),
        ("trial", {"evaluation_key": "unknown"}, "no evaluation"),
        ("trial", {"number": -1}, "number"),
        ("trial", {"number": 1}, "is there twice"),
        ("promotion", {"trial_id": 999}, "no trial 999"),
        ("promotion", {"run_id": "run-a"}, "no trial"),
        ("promotion", {"evaluation_key": "unknown"}, "no evaluation"),
        ("promotion", {"rung": 0}, "promotion.rung"),
        ("pattern", {"claim": {"x": 1}}, "pattern."),
        ("pattern", {"drawn_from": ["nowhere"]}, "drawn_from"),
        ("pattern_test", {"trial_id": 999}, "no trial 999"),
        ("pattern_test", {"verdict": "maybe"}, "verdict"),
        ("call", {"messages": [{"role": "user"}]}, "content"),
        ("event", {"payload": ...}, "event.payload"),
        ("end", {"lines": 3}, "speaks of 3 lines"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_taken_in(
    two_runs: Records, other: Records, kind: str, fields: dict[str, Any], words: str
) -> None:
    before = contents(other)
    lines, number = changed(lines_of(two_runs), kind, fields)
    with pytest.raises(InputError) as caught:
        taken_in(other, lines)
    if kind == "trial" and fields == {"number": 1}:
        number += 1
    assert f"Line {number} " in str(caught.value) and words in str(caught.value), caught.value
    assert "Nothing was imported." in str(caught.value) and "\n" not in str(caught.value)
    assert contents(other) == before


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda lines: lines[:-1], "before its last line"),
        (lambda lines: [], "it is empty"),
        (lambda lines: lines[1:], "Line 1 "),
        (lambda lines: [*lines, lines[3]], "after the end"),
        (lambda lines: [lines[0], lines[0], *lines[1:]], "second header"),
        (lambda lines: [lines[0], *lines[2:3], *lines[1:2], *lines[3:]], "comes after"),
        (lambda lines: [lines[0], lines[1][:40], *lines[2:]], "Line 2 "),
        (lambda lines: [lines[0], "[" * 100_000, *lines[1:]], "Line 2 "),
        (lambda lines: [lines[0], '{"run": null}', *lines[1:]], "0 records"),
        (lambda lines: [lines[0], lines[1], lines[1], *lines[2:]], "there twice"),
        (lambda lines: ["penjing", *lines], "Line 1 "),
    ],
)
def test_files_that_are_none_of_ours(
    two_runs: Records, other: Records, broken: Callable[[list[str]], list[str]], words: str
) -> None:
    before = contents(other)
    with pytest.raises(InputError, match=words):
        taken_in(other, broken(lines_of(two_runs)))
    assert contents(other) == before


def test_settings_that_cannot_be_read_are_refused(two_runs: Records, other: Records) -> None:
    def refuse(run: Any) -> None:
        if run.id == "run-b":
            raise ValueError("its settings are strange")

    with pytest.raises(InputError, match=r"Line 4 .*its settings are strange"):
        taken_in(other, lines_of(two_runs), refuse)
    assert not other.runs()


def test_a_key_that_means_another_design_here_is_refused(two_runs: Records, other: Records, design: Design) -> None:
    lines = lines_of(two_runs)
    key = str(two_runs.trial("run-a", 0).evaluation_key)
    number = next(place for place, line in enumerate(lines, 1) if f'"key":"{key}"' in line)
    mine, own = design(hidden=16), {"fidelity": "quick", "parameters": 1, "loss": 1.0}
    other.create_run(Run(id="mine"))
    other.add_evaluation(
        Evaluation(
            key=key,
            run_id="mine",
            architecture_hash=mine.hash,
            architecture=mine.model_dump(mode="json"),
            fidelity="quick",
            status="done",
            parameters=1,
            measurement=own,
        )
    )
    with pytest.raises(InputError, match=f"Line {number} .*another design"):
        taken_in(other, lines)
    assert [run.id for run in other.runs()] == ["mine"]
