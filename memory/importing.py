"""Records of another home taken in: nothing that is here is changed, and what is here stays one.

All is checked before anything is written, and it is written in pieces, so that searches can write between them. An
import that was stopped goes on when the same file is imported again.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, BinaryIO

from pydantic import BaseModel
from sqlmodel import Session, SQLModel, col, func, select

from memory.database import Database, insert_if_new
from memory.exchange_checks import CheckRun, LineChecks, at_line, read_lines
from memory.exchange_format import TABLES, renamed
from memory.tables import Call, Evaluation, Pattern, PatternTest, Proposal, Run, RunEvent, Trial
from memory.values import storable

_ROWS = 500  # in memory at a time
_PLACES = ("home", "cache", "prompt_dir", "prices", "record", "replay", "task_data")
"""Settings that are places of the machine where a run was made; here they name nothing, or something else."""


class ImportReport(BaseModel):
    """What an import brought: runs, those that were here before, those whose names were taken, and new evaluations."""

    imported: list[str] = []
    present: list[str] = []
    renamed: dict[str, str] = {}
    trials: int = 0
    evaluations: int = 0
    known_evaluations: int = 0


def import_records(
    records: Database, file: BinaryIO, check_run: CheckRun, told: Callable[[int], None] = lambda _: None
) -> ImportReport:
    """Take in what `memory.exchange.export_lines` wrote, from a file that can be read twice.

    A run that is here already, be it as an import, stays as it is, and nothing of it is taken in. One whose name is
    that of another run here gets a name of its own. Imported runs are marked, and are never gone on with. `told` hears
    of every line, first as it is checked, then as it is written. No two imports may work at once.

    Raises:
        InputError: a line cannot be imported; then nothing was.
    """
    checks = LineChecks(check_run)
    for number, kind, record in read_lines(file):
        checks.check(number, kind, record)
        told(number)
    with records.reading() as session:
        for keys in _batches(checks.evaluations):
            known = select(Evaluation.key, Evaluation.architecture_hash).where(col(Evaluation.key).in_(keys))
            for key, design in session.exec(known):
                line, own = checks.evaluations[key]
                if own != design:
                    raise at_line(line, f"the evaluation {key} is known here as one of another design")
    file.seek(0)
    writer = _Writer()
    with records.writing() as session:
        writer.begin(session, list(checks.runs.values()))
    lines = ((number, kind, record) for number, kind, record in read_lines(file) if kind != "run")
    for kind, same in groupby(lines, key=lambda line: line[1]):
        for batch in _batches(same):
            # Short, and the next lines are read between two of them.
            with records.writing() as session:
                writer.write(session, kind, [record for _, _, record in batch])
            told(batch[-1][0])
    with records.writing() as session:
        writer.end(session)
    return writer.report


class _Writer:
    """Writes checked records; ids and names of runs become those of this database.

    A run that is imported and running is one whose import has not come to its end: what is there of it stays.
    """

    def __init__(self) -> None:
        self.report = ImportReport()
        self._session: Session
        self._names = dict[str, str]()
        self._now = datetime.now(UTC)
        self._fresh, self._begun = dict[str, Any](), set[str]()
        self._there = Counter[tuple[str, str]]()
        self._proposals, self._trials, self._patterns = dict[int, int](), dict[int, int](), dict[int, int]()
        self._evaluations = dict[str, int]()

    def begin(self, session: Session, runs: Sequence[Any]) -> None:
        """Write the runs down, all at once: from then on their names are taken."""
        self._session = session
        for run in runs:
            self._name(run)
        for run in runs:
            if run.id in self._fresh and run.id not in self._begun:
                session.add(self._row("run", run))

    def end(self, session: Session) -> None:
        """Mark the runs as whole."""
        for old, run in self._fresh.items():
            row = session.get(Run, renamed(old, self._names))
            if row is not None:
                row.status = "interrupted" if run.status == "running" else run.status

    def _name(self, run: Any) -> None:
        """The run's name here: its own, or, where that is another run's, one with a digest of what it is."""
        digest = hashlib.sha256(f"{run.created_at.isoformat()} {run.fingerprint}".encode()).hexdigest()[:6]
        for name in (run.id, f"{run.id}-{digest}"):
            there = self._session.get(Run, name)
            if there is None:
                self._fresh[run.id] = run
                self.report.imported.append(name)
                break
            if (there.created_at, there.fingerprint) == (run.created_at, run.fingerprint):
                if there.imported_at is not None and there.status == "running":
                    self._go_on(run, name)
                else:
                    self.report.present.append(name)
                break
        if name != run.id:
            self._names[run.id] = name
            self.report.renamed[run.id] = name

    def _go_on(self, run: Any, name: str) -> None:
        """A run whose import was stopped; calls and events are known by their place alone, and stand in order."""
        self._fresh[run.id] = run
        self._begun.add(run.id)
        self.report.imported.append(name)
        for kind, table in (("call", Call), ("event", RunEvent)):
            count = select(func.count()).select_from(table).where(col(table.run_id) == name)
            self._there[kind, run.id] = self._session.exec(count).one()

    def write(self, session: Session, kind: str, records: list[Any]) -> None:
        """Records of one kind but runs, in the order of the file."""
        self._session = session
        if kind == "evaluation":
            self._write_evaluations(records)
        elif kind == "prompt":
            for record in records:
                insert_if_new(session, self._row(kind, record), "hash")
        elif kind == "pattern_test":
            for record in records:
                self._write_test(record)
        elif kind == "promotion":
            for record in records:
                self._write_promotion(record)
        else:
            self._write_of_runs(kind, records)

    def _write_of_runs(self, kind: str, records: list[Any]) -> None:
        """What belongs to one run each; of what is here already only the ids are looked up."""
        ids = {"proposal": self._proposals, "trial": self._trials, "pattern": self._patterns}.get(kind)
        fresh = [record for record in records if record.run_id in self._fresh]
        if ids is None:
            fresh = [record for record in fresh if not self._is_there(kind, record.run_id)]
        else:
            known = [one for one in records if one.run_id not in self._fresh or one.run_id in self._begun]
            self._look_up(kind, known, ids)
            fresh = [record for record in fresh if record.id not in ids]
        rows = [self._row(kind, record) for record in fresh]
        self._session.add_all(rows)
        self._session.flush()
        if ids is not None:
            ids.update((record.id, row.id) for record, row in zip(fresh, rows, strict=True))
        self.report.trials += len(rows) if kind == "trial" else 0

    def _is_there(self, kind: str, run_id: str) -> bool:
        """Whether the next one of a run was written before its import was stopped."""
        left = self._there[kind, run_id]
        self._there[kind, run_id] = max(0, left - 1)
        return left > 0

    def _look_up(self, kind: str, records: list[Any], ids: dict[int, int]) -> None:
        for record in records:
            run_id = renamed(record.run_id, self._names)
            query: Any
            if kind == "proposal":
                names = ("turn", "attempt", "proposer", "candidate")
                places = [getattr(Proposal, name) == getattr(record, name) for name in names]
                query = select(Proposal.id).where(Proposal.run_id == run_id, *places)
            elif kind == "trial":
                query = select(Trial.id).where(Trial.run_id == run_id, Trial.number == record.number)
            else:
                proposal = self._proposals.get(record.proposal_id)
                query = select(Pattern.id).where(Pattern.proposal_id == proposal, Pattern.line == record.line)
            found = self._session.exec(query).first()
            if found is not None:
                ids[record.id] = found

    def _write_evaluations(self, records: list[Any]) -> None:
        keys = {record.key: _key(record.key, self._names) for record in records}
        known = set(self._session.exec(select(Evaluation.key).where(col(Evaluation.key).in_(keys.values()))))
        for record in records:
            if keys[record.key] not in known:
                insert_if_new(self._session, self._row("evaluation", record), "key")
        self.report.known_evaluations += len(known)
        self.report.evaluations += len(records) - len(known)
        rows = self._session.exec(select(Evaluation.key, Evaluation.id).where(col(Evaluation.key).in_(keys.values())))
        ids = dict(rows.all())
        self._evaluations |= {old: ids[new] for old, new in keys.items()}

    def _write_test(self, record: Any) -> None:
        """One whose pattern or trial is not here, since their run had not come so far then, is left out."""
        pattern_id, trial_id = self._patterns.get(record.pattern_id), self._trials.get(record.trial_id)
        if pattern_id is not None and trial_id is not None:
            test = PatternTest(
                pattern_id=pattern_id, trial_id=trial_id, verdict=record.verdict, created_at=record.created_at
            )
            insert_if_new(self._session, test, "pattern_id", "trial_id")

    def _write_promotion(self, record: Any) -> None:
        """One of a run that was here before stays out, as all of that does."""
        if record.run_id in self._fresh:
            insert_if_new(self._session, self._row("promotion", record), "trial_id", "rung")

    def _row(self, kind: str, record: Any) -> Any:
        values: dict[str, Any] = storable(record.model_dump())
        if kind != "run":
            values.pop("id", None)
        if "run_id" in values and values["run_id"] is not None:
            values["run_id"] = renamed(values["run_id"], self._names)
        if kind == "run":
            values |= _run_values(values, renamed(record.id, self._names), self._now)
            values["branch_of"] = self._names.get(record.branch_of, record.branch_of)
        elif kind == "evaluation":
            values["key"] = _key(record.key, self._names)
            # Who paid is known here, or nobody.
            values["run_id"] = values["run_id"] if record.run_id in self._fresh else None
        elif kind == "proposal":
            values["retrieved"] = [{**one, "id": renamed(one["id"], self._names)} for one in values["retrieved"]]
        elif kind in ("trial", "promotion"):
            key = values.pop("evaluation_key")
            values["evaluation_id"] = None if key is None else self._evaluations[record.evaluation_key]
            if kind == "trial":
                values["proposal_id"] = self._proposals[record.proposal_id]
            else:
                values["trial_id"] = self._trials[record.trial_id]
        elif kind == "pattern":
            values["proposal_id"] = self._proposals[record.proposal_id]
            values["drawn_from"] = [renamed(name, self._names) for name in values["drawn_from"]]
        elif kind == "event" and isinstance(values["payload"].get("run"), str):
            values["payload"] = {**values["payload"], "run": renamed(values["payload"]["run"], self._names)}
        table: type[SQLModel] = TABLES[kind]
        return table(**values)


def _run_values(values: dict[str, Any], name: str, now: datetime) -> dict[str, Any]:
    """A run without the places of its own machine; it counts as running until its import has come to its end."""
    config = {key: value for key, value in values["config"].items() if key not in _PLACES}
    result = values["result"]
    if result is not None:
        result = {**result, "export": None, "picture": None}
    return {"id": name, "status": "running", "config": config, "result": result, "imported_at": now}


def _key(key: str, names: dict[str, str]) -> str:
    """The key of an evaluation; that of a failure ends with the trial that it is the result of."""
    base, slash, place = key.partition("/")
    return f"{base}{slash}{renamed(place, names)}" if slash else key


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == _ROWS:
            yield batch
            batch = []
    if batch:
        yield batch
