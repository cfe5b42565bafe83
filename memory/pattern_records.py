"""Records of patterns: what agents named, what it was drawn from, what later trials say of it."""

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import NamedTuple

from sqlalchemy import bindparam
from sqlmodel import Session, col, select

from memory.added_rows import AddedRows
from memory.database import Database, insert_if_new
from memory.run_records import newest_first
from memory.tables import Pattern, PatternTest, Proposal, Run, Trial
from tools.errors import InputError

_IDS = 5000  # of one statement; SQLite takes 32,766
_NUMBERED = select(Pattern, Trial.number).join(Trial, col(Trial.proposal_id) == col(Pattern.proposal_id))
_OF_RUN = _NUMBERED.where(Pattern.run_id == bindparam("run")).order_by(col(Pattern.proposal_id), col(Pattern.line))


class PatternPlace(NamedTuple):
    """Which pattern: the proposal that named it, and the line of its rationale."""

    proposal_id: int
    line: int


class RecordedTest(NamedTuple):
    """What a trial says of a pattern: `support` or `contradiction`."""

    place: PatternPlace
    trial_id: int
    verdict: str


class NumberedPattern(NamedTuple):
    """A pattern, and the number of the trial that its proposal became."""

    pattern: Pattern
    number: int

    @property
    def place(self) -> PatternPlace:
        """Where it was named."""
        return PatternPlace(self.pattern.proposal_id, self.pattern.line)

    @property
    def name(self) -> str:
        """Its name across runs, `RUN/NUMBER/LINE`; also that of the lesson in the vector store."""
        return f"{self.pattern.run_id}/{self.number}/{self.pattern.line}"


class PatternRecords(Database):
    """Patterns are unique in (proposal, line), their tests in (pattern, trial)."""

    def record_patterns(self, patterns: Sequence[Pattern], tests: Sequence[RecordedTest]) -> None:
        """Write patterns and tests down, all or none. What is there already stays, so that repeating is harmless."""
        with self.writing() as session:
            for pattern in patterns:
                insert_if_new(session, pattern, "proposal_id", "line")
            wanted = {test.place.proposal_id for test in tests}
            rows = session.exec(
                select(Pattern.id, Pattern.proposal_id, Pattern.line).where(col(Pattern.proposal_id).in_(wanted))
            )
            ids = {PatternPlace(proposal_id, line): id for id, proposal_id, line in rows}
            for test in tests:
                row = PatternTest(pattern_id=ids[test.place], trial_id=test.trial_id, verdict=test.verdict)
                insert_if_new(session, row, "pattern_id", "trial_id")

    def patterns(self, run_id: str) -> list[NumberedPattern]:
        """The patterns of a run in the order in which they were named."""
        with self.reading() as session:
            return [NumberedPattern(*row) for row in session.exec(_OF_RUN, params={"run": run_id})]

    def past_patterns(self, run_id: str, most_runs: int = 50) -> list[NumberedPattern]:
        """Those of the latest other runs with the same source and corpus, in their order.

        Raises:
            InputError: there is no such run.
        """
        with self.reading() as session:
            own = session.get(Run, run_id)
            if own is None:
                raise InputError(f"there is no run {run_id!r}; `penjing runs` lists the runs there are")
            latest = (
                select(Run.id)
                .where(Run.id != run_id, Run.source == own.source, Run.corpus == own.corpus)
                .order_by(*newest_first())
                .limit(most_runs)
            )
            query = _NUMBERED.where(col(Pattern.run_id).in_(session.exec(latest).all()))
            return [NumberedPattern(*row) for row in session.exec(query.order_by(col(Pattern.id)))]

    def runs_without_patterns(self, stage: str) -> list[str]:
        """Ids of runs with finished trials of this stage, of known source, whose patterns are not noted yet."""
        noted = select(Pattern.id).where(col(Pattern.proposal_id) == col(Trial.proposal_id)).exists()
        query = (
            select(Trial.run_id)
            .join(Run, col(Run.id) == col(Trial.run_id))
            .where(Trial.stage == stage, col(Trial.evaluation_id).is_not(None), ~noted)
            .where(col(Run.source_architecture).is_not(None))
            .distinct()
            .order_by(col(Trial.run_id))
        )
        with self.reading() as session:
            return list(session.exec(query))

    def pattern_tests(self, pattern_ids: Collection[int]) -> list[PatternTest]:
        """All tests of these patterns, also by trials of other runs."""
        wanted, found = sorted(pattern_ids), list[PatternTest]()
        with self.reading() as session:
            for start in range(0, len(wanted), _IDS):
                query = select(PatternTest).where(col(PatternTest.pattern_id).in_(wanted[start : start + _IDS]))
                found += session.exec(query.order_by(col(PatternTest.id)))
        return found

    def patterns_given(self, run_id: str) -> dict[str, int]:
        """Names of the patterns of other runs that stood in prompts of this one, each with the first trial after it."""
        found: dict[str, int] = {}
        with self.reading() as session:
            for number, names in reversed(self._given.of(session, run_id)):
                if names:
                    found |= dict.fromkeys(names, number)
        return found

    @cached_property
    def _given(self) -> AddedRows[tuple[int, tuple[str, ...]]]:
        return AddedRows(Trial, _given_after)


def _given_after(session: Session, run_id: str, after: int) -> list[tuple[int, tuple[int, tuple[str, ...]]]]:
    query = (
        select(Trial.id, Trial.number, Proposal.retrieved)
        .join(Proposal, col(Proposal.id) == col(Trial.proposal_id))
        .where(Trial.run_id == run_id, col(Trial.id) > after)
        .order_by(col(Trial.id))
    )
    found = []
    for id, number, retrieved in session.exec(query):
        names = [str(row["id"]) for row in retrieved if row.get("kind") == "patterns"]
        found.append((id, (number, tuple(name for name in names if not name.startswith(f"{run_id}/")))))
    return found
