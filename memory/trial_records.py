"""Records of trials and of the evaluations that they got."""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import bindparam
from sqlalchemy.orm import defer
from sqlmodel import Session, col, func, select
from sqlmodel.sql.expression import Select

from memory.added_rows import AddedRows
from memory.database import Database, insert_if_new
from memory.finished_views import FinishedViews
from memory.judging import Judging, goal_of
from memory.promotion_records import first_rung_of, with_rungs
from memory.tables import Evaluation, FinishedTrialError, Proposal, Run, Trial
from memory.trial_sequence import TrialSequence
from memory.views import TrialView
from tools.architecture import Architecture
from tools.errors import InputError
from tools.measurement import Measurement
from tools.settings import GoalSettings

_UNSAID: tuple[Any, ...] = (
    Proposal.raw,
    Proposal.parsed,
    Proposal.problems,
    Proposal.notes,
    Proposal.architecture,
    Proposal.retrieved,
    Evaluation.architecture,
)
_DESIGN: Any = Trial.architecture

# Trials, each with its proposal, and its evaluation where it has one.
_JOINED: "Select[Trial, Proposal, Evaluation]" = (
    select(Trial, Proposal, Evaluation)
    .join(Proposal, col(Proposal.id) == col(Trial.proposal_id))
    .join(Run, col(Run.id) == col(Trial.run_id))
    .join(Evaluation, col(Evaluation.id) == col(Trial.evaluation_id), isouter=True)
    # No view says them, and reading their JSON takes most of the time.
    .options(*[defer(column) for column in _UNSAID])
)
# Made once: to put a statement together takes as long as to carry it out.
_OF_RUN = _JOINED.where(Trial.run_id == bindparam("run"))
_ONE = _OF_RUN.where(Trial.number == bindparam("number"))
_SOME = _OF_RUN.where(col(Trial.number).in_(bindparam("numbers", expanding=True))).order_by(col(Trial.number))
_BY_ID = _JOINED.where(col(Trial.id).in_(bindparam("ids", expanding=True)))
_AUTHOR = select(Proposal.run_id, Proposal.stage, Proposal.proposer, Proposal.parent_number).where(
    Proposal.id == bindparam("proposal")
)
_OF_PROPOSAL = select(Trial).where(Trial.proposal_id == bindparam("proposal"))
_LAST = select(func.max(Trial.number)).where(Trial.run_id == bindparam("run"))
_BY_KEY = select(Evaluation).where(col(Evaluation.key).in_(bindparam("keys", expanding=True)))
_PAYER = select(Evaluation.id, Evaluation.run_id).where(Evaluation.key == bindparam("key")).with_for_update()
_SECONDS = (
    select(Evaluation.id, Evaluation.fidelity, Evaluation.status, col(Evaluation.measurement)["seconds"].as_float())
    .where(Evaluation.run_id == bindparam("run"), col(Evaluation.id) > bindparam("after"))
    .order_by(col(Evaluation.id))
)
# By the evaluation alone: few have the same one, while looking through a run takes longer with each trial.
_HAVING = select(Trial.run_id).where(Trial.evaluation_id == bindparam("evaluation"))


class TrialRecords(Database):
    """Trials are numbered from 0 in each run; an evaluation is unique in its key across runs."""

    @cached_property
    def _finished(self) -> FinishedViews:
        return FinishedViews()

    @cached_property
    def _judging(self) -> Judging:
        return Judging()

    @cached_property
    def _paid(self) -> AddedRows[tuple[str, str, float]]:
        return AddedRows(Evaluation, _seconds_after)

    def add_trial(self, proposal_id: int, architecture: Architecture) -> Trial:
        """Give the design of a proposal the run's next number. A proposal that has a trial keeps it.

        Raises:
            KeyError: there is no such proposal.
        """
        with self.writing() as session:
            proposal = session.exec(_AUTHOR, params={"proposal": proposal_id}).first()
            if proposal is None:
                raise KeyError(proposal_id)
            run_id, stage, proposer, parent = proposal
            if self.engine.dialect.name != "sqlite":
                # There two transactions may write at once: the run's row is the lock on its numbers.
                session.exec(select(Run.id).where(Run.id == run_id).with_for_update()).one()
            existing = session.exec(_OF_PROPOSAL, params={"proposal": proposal_id}).first()
            if existing:
                return existing
            last = session.exec(_LAST, params={"run": run_id}).one()
            trial = Trial(
                run_id=run_id,
                number=0 if last is None else last + 1,
                proposal_id=proposal_id,
                stage=stage,
                proposer=proposer,
                parent_number=parent,
                architecture_hash=architecture.hash,
                architecture=architecture.model_dump(mode="json"),
            )
            session.add(trial)
            session.flush()
            return trial

    def finish_trial(self, trial_id: int, evaluation_id: int, cached: bool) -> Trial:
        """Give a trial its evaluation, once. Repeating the same is harmless.

        Raises:
            FinishedTrialError: it has another one.
            KeyError: there is no such trial.
        """
        with self.writing() as session:
            trial = session.get(Trial, trial_id, with_for_update=True)
            if trial is None:
                raise KeyError(trial_id)
            if trial.evaluation_id == evaluation_id:
                return trial
            if trial.evaluation_id is not None:
                raise FinishedTrialError(
                    f"trial {trial.number} of run {trial.run_id} is finished and cannot be changed"
                )
            trial.evaluation_id = evaluation_id
            trial.cached = cached
            session.flush()
            return trial

    def reuse_evaluation(self, trial_id: int, key: str) -> bool:
        """Give a trial that has none the evaluation of this key, if it was ever paid; whether it has one now.

        It counts as cached unless its own run paid, and for no earlier trial: then it was paid for this one.

        Raises:
            KeyError: there is no such trial.
        """
        with self.writing() as session:
            trial = session.get(Trial, trial_id, with_for_update=True, options=[defer(_DESIGN)])
            if trial is None:
                raise KeyError(trial_id)
            if trial.evaluation_id is not None:
                return True
            known = session.exec(_PAYER, params={"key": key}).first()
            if known is None:
                return False
            evaluation_id, payer = known
            having = session.exec(_HAVING, params={"evaluation": evaluation_id})
            trial.cached = payer != trial.run_id or trial.run_id in having
            trial.evaluation_id = evaluation_id
            return True

    def trial(self, run_id: str, number: int) -> TrialView:
        """One trial of a run.

        Raises:
            InputError: the run has no trial of this number.
        """
        with self.reading() as session:
            found = self._views(session, _ONE, {"run": run_id, "number": number})
        if not found:
            raise InputError(f"run {run_id} has no trial {number}; `penjing show {run_id}` lists its trials")
        return found[0]

    def trials(self, run_id: str, numbers: Collection[int] | None = None) -> TrialSequence:
        """The trials of a run by number, all or those of these numbers, also those without an evaluation yet."""
        if numbers is not None and not numbers:
            return TrialSequence()
        with self.reading() as session:
            if numbers is not None:
                return TrialSequence(self._views(session, _SOME, {"run": run_id, "numbers": list(numbers)}))
            views = self._finished.read(session, run_id, self._plain_views)
            ladders = self._judging.ladders(session, [run_id]) if views else {}
            return TrialSequence(with_rungs(session, views, ladders)) if any(ladders.values()) else views

    def past_trials(
        self, source: str | None = None, corpus: str | None = None, exclude_run: str | None = None, limit: int = 100
    ) -> list[TrialView]:
        """Finished trials across runs, newest first, of one source and corpus where these are given.

        Parents are numbers in the trial's own run (`run_id`). Losses compare only at one fidelity.
        """
        query = _JOINED.where(col(Trial.evaluation_id).is_not(None))
        if source is not None:
            query = query.where(col(Trial.run_id).in_(select(Run.id).where(Run.source == source)))
        if corpus is not None:
            query = query.where(col(Trial.run_id).in_(select(Run.id).where(Run.corpus == corpus)))
        if exclude_run is not None:
            query = query.where(Trial.run_id != exclude_run)
        with self.reading() as session:
            return self._views(session, query.order_by(col(Trial.id).desc()).limit(limit))

    def comparable_trials(self, run_id: str, limit: int = 200) -> list[TrialView]:
        """Trials that other runs finished before this one began, measured just as its own are, newest first.

        They have the same source, corpus, data and recipe, and each evaluation counts once. Their `goal` is that of
        this run, so that scores compare; where it is after accuracy, they measured the same one. Seeds may differ.

        Raises:
            InputError: there is no such run.
        """
        with self.reading() as session:
            own = session.get(Run, run_id)
            if own is None:
                raise InputError(f"there is no run {run_id!r}; `penjing runs` lists the runs there are")
            others = session.exec(
                select(Run).where(Run.id != run_id, Run.source == own.source, Run.corpus == own.corpus)
            )
            wanted = col(Trial.run_id).in_([run.id for run in others if measured_alike(run, own)])
            goal = goal_of(own)
            # Those that are told first, since reading one takes longer than finding it.
            newest = (
                select(Evaluation.id)
                .where(
                    col(Evaluation.loss if goal.objective == "loss" else Evaluation.accuracy).is_not(None),
                    col(Evaluation.id) <= own.evaluations_before,
                    select(Trial.id).where(col(Trial.evaluation_id) == col(Evaluation.id), wanted).exists(),
                )
                .order_by(col(Evaluation.id).desc())
                .limit(limit)
            )
            query = _JOINED.where(col(Evaluation.id).in_(session.exec(newest).all()), wanted)
            rows = session.exec(query.order_by(col(Evaluation.id).desc(), col(Trial.id))).all()
        found = dict[int, TrialView]()
        for trial, proposal, evaluation in rows:
            found.setdefault(evaluation.id, _view(trial, proposal, evaluation, goal))
        return list(found.values())

    def evaluation(self, key: str, *others: str, timed_here: bool = False) -> Evaluation | None:
        """The evaluation of this key, or else of the first of the `others`, if any of them was ever paid.

        With `timed_here` that of `key` must be of a run of this home: times of another machine mean nothing here.
        """
        with self.reading() as session:
            found = session.exec(_BY_KEY, params={"keys": [key, *others]})
            known = {one.key: one for one in found}
            if key in known and timed_here and not _is_own(session, known[key]):
                del known[key]
        return next((known[one] for one in (key, *others) if one in known), None)

    def evaluations(self, run_id: str) -> list[Evaluation]:
        """The evaluations that a run paid for, in their order: not those that it found in the records."""
        with self.reading() as session:
            query = select(Evaluation).where(Evaluation.run_id == run_id).order_by(col(Evaluation.id))
            return list(session.exec(query))

    def evaluation_seconds(self, run_id: str) -> list[tuple[str, str, float]]:
        """Fidelity, status and seconds of each evaluation that a run paid for, in their order."""
        with self.reading() as session:
            return self._paid.of(session, run_id)

    def add_evaluation(self, evaluation: Evaluation) -> Evaluation:
        """Write an evaluation down. Where its key is taken, the evaluation that is there is returned and kept."""
        with self.writing() as session:
            insert_if_new(session, evaluation, "key")
            return session.exec(_BY_KEY, params={"keys": [evaluation.key]}).one()

    def _views(
        self, session: Session, query: "Select[Trial, Proposal, Evaluation]", values: Mapping[str, Any] | None = None
    ) -> list[TrialView]:
        """What a query finds with these values, with the figures of all rungs."""
        rows = session.exec(query, params=values).all()
        run_ids = {trial.run_id for trial, _, _ in rows}
        goals = self._judging.goals(session, run_ids)
        views = [_view(trial, proposal, evaluation, goals[trial.run_id]) for trial, proposal, evaluation in rows]
        return with_rungs(session, views, self._judging.ladders(session, run_ids))

    def _plain_views(self, session: Session, ids: Sequence[int], run_id: str) -> list[TrialView]:
        """The trials of these ids, all of one run, as they are on the first rung."""
        goal = self._judging.goals(session, [run_id])[run_id]
        rows = session.exec(_BY_ID, params={"ids": list(ids)})
        return [_view(trial, proposal, evaluation, goal) for trial, proposal, evaluation in rows]


def _is_own(session: Session, evaluation: Evaluation) -> bool:
    """Whether a run of this home paid for it."""
    payer = session.get(Run, evaluation.run_id) if evaluation.run_id is not None else None
    return payer is not None and payer.imported_at is None


def _seconds_after(session: Session, run_id: str, after: int) -> list[tuple[int, tuple[str, str, float]]]:
    rows = session.exec(_SECONDS, params={"run": run_id, "after": after})
    return [(id, (fidelity, status, float(took or 0.0))) for id, fidelity, status, took in rows]


def measured_alike(one: Run, other: Run) -> bool:
    """Whether two runs of one source and corpus measure designs in the same way, but for the seed."""
    deciding = ["data", "recipe"]
    if goal_of(other).objective == "accuracy":
        deciding += ["objective", "objective_tasks", "objective_limit", "task_data"]
    same = all(one.config.get(name) == other.config.get(name) for name in deciding)
    # All trials have figures of the first rung, and only those are told to other runs.
    same = same and first_rung_of(one) == first_rung_of(other)
    return same and one.source_architecture == other.source_architecture


def _view(trial: Trial, proposal: Proposal, evaluation: Evaluation | None, goal: GoalSettings) -> TrialView:
    return TrialView(
        trial_id=trial.id,
        run_id=trial.run_id,
        number=trial.number,
        stage=trial.stage,
        proposer=trial.proposer,
        parent_number=trial.parent_number,
        architecture=Architecture.model_validate(trial.architecture),
        measurement=Measurement.model_validate(evaluation.measurement) if evaluation else None,
        rationale=tuple(proposal.rationale),
        outcome=proposal.outcome,
        forecast=proposal.forecast,
        expected_score=proposal.expected_score,
        expected_deviation=proposal.expected_deviation,
        cached=trial.cached,
        prompt_hash=proposal.prompt_hash,
        based_on=tuple(proposal.based_on),
        proposal_id=trial.proposal_id,
        evaluation_key=evaluation.key if evaluation else None,
        created_at=trial.created_at,
        goal=goal,
    )
