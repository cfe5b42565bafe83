"""The library of a search of language models: the vector store says what is near, the records what came of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import PurePath
from typing import NamedTuple

from memory.embeddings import embed_architecture
from memory.filters import Filter, Reach
from memory.judging import goal_of
from memory.library import Past
from memory.outcomes import change_of_score, describe_outcome, reason_of_failure, relative_outcome
from memory.past_records import FinishedDesign
from memory.promotion_records import told_ladder
from memory.records import Records
from memory.shapes import describe_shape
from memory.tables import Run
from memory.trial_records import measured_alike
from memory.values import to_json
from memory.vectors import VectorStore
from memory.views import Judged
from tools.architecture import Architecture
from tools.settings import GoalSettings

_MOST_KEPT = 10_000


@dataclass
class StoredLibrary:
    """What the search `run_id` may see of the past, as far as `reach` goes.

    Sizes fit within `sizes`, smallest and largest. Figures are given of what was measured just as the search measures:
    of its own trials, and of those of runs with its source, corpus, data and recipe. Of all else it is told only
    whether it was better than its own parent; and designs of another source are described relative to that.

    Finished trials never change, so that what was read once is kept; a run that is forgotten is told no more. Of runs
    that measure at several fidelities the figures of the first rung are told, where all of their trials are.
    """

    records: Records
    vectors: VectorStore
    run_id: str
    goal: GoalSettings
    reference: Architecture
    sizes: tuple[int, int]
    reach: Reach = "same_source"
    _runs: dict[str, "_KnownRun"] = field(default_factory=dict, repr=False)
    _pasts: dict[str, Past] = field(default_factory=dict, repr=False)
    _sources: dict[str, Architecture] = field(default_factory=dict, repr=False)

    @property
    def scope(self) -> Filter:
        """What is within reach, and of the same source what has a size that fits."""
        own, (smallest, largest) = self._own, self.sizes
        if self.reach == "none":
            return Filter(run_id=self.run_id, min_parameters=smallest, max_parameters=largest)
        if self.reach == "same_source":
            return Filter(own.source, own.corpus, min_parameters=smallest, max_parameters=largest)
        return Filter()

    @property
    def runs(self) -> list[str] | None:
        """The runs within reach whose figures compare, this one first; None where all runs are within reach."""
        return None if self.reach == "all" else [self.run_id, *(self._alike if self.reach == "same_source" else ())]

    def size_of(self, design: Architecture) -> float:
        """As a share of the source's parameters."""
        return design.parameters / self.reference.parameters

    def near(self, design: Architecture, k: int, where: Filter) -> Sequence[tuple[str, float]]:
        """By the distance of widths relative to the source's."""
        found = self.vectors.nearest(design, self.reference, k, where.of_designs())
        return [(one.id, one.distance) for one in found]

    def worded(self, text: str, k: int, where: Filter) -> Sequence[tuple[str, str, float]]:
        """By the text embedding."""
        return [(one.id, one.text, one.distance) for one in self.vectors.lessons(text, k, where.of_lessons())]

    def leading(self, k: int) -> Sequence[str]:
        """Of this run, and of those that measure alike where past runs are within reach."""
        goal, sizes = self.goal.objective, self.sizes
        found = None if self.reach == "none" else self.records.leading_of_many(k, goal, sizes, self._comparable)
        if found is None:
            runs = [self.run_id, *(() if self.reach == "none" else self._alike)]
            found = self.records.leading_trials(runs, k, goal, sizes)
        return found

    def past(self, ids: Iterable[str]) -> dict[str, Past]:
        """From the records: what the vector store keeps beside its vectors may be of an older version."""
        run_of = {id: id.rpartition("/")[0] for id in ids}
        known = self.records.known_run_ids(set(run_of.values()))
        there = [id for id in run_of if run_of[id] in known]
        if len(self._pasts) > _MOST_KEPT:
            self._pasts.clear()
        found = self.records.finished_designs(id for id in there if id not in self._pasts)
        self._learn({one.run_id for one in found.values()})
        self._pasts |= {
            id: self._past(id, self._runs[one.run_id], one) for id, one in found.items() if one.run_id in self._runs
        }
        return {id: self._pasts[id] for id in there if id in self._pasts}

    def _past(self, id: str, run: "_KnownRun", one: FinishedDesign) -> Past:
        reference, comparable = run.reference, run.comparable
        view = Judged(measurement=one.measurement, goal=run.goal, ladder=run.ladder)
        parent = None if one.parent is None else Judged(measurement=one.parent, goal=run.goal, ladder=run.ladder)
        change = change_of_score(view, parent)
        if comparable:
            # The limits and the objective are those of the search that asks.
            own = {"goal": self.goal, "ladder": self._own_ladder}
            view = view.model_copy(update=own)
            parent = None if parent is None else parent.model_copy(update=own)
        words = describe_outcome(view, parent) if comparable else relative_outcome(view, parent)
        if reason := reason_of_failure(view):
            words = f"{words} ({reason})"
        excess = view.over_limit if comparable else None
        design, (smallest, largest) = one.architecture, self.sizes
        return Past(
            id=id,
            identity=one.hash,
            describe=design.describe if run.same_source else partial(describe_shape, design, reference),
            outcome=words if excess is None else f"{words}, over the limit: {excess}",
            score=view.score if comparable else None,
            loss=view.loss if comparable else None,
            change=change,
            unusable=not view.succeeded or excess is not None,
            origin=run.origin,
            size=one.parameters / reference.parameters,
            fits=not run.same_source or smallest <= one.parameters <= largest,
            embed=partial(embed_architecture, design, reference),
        )

    @cached_property
    def _own_ladder(self) -> tuple[str, ...]:
        return told_ladder(self._own)

    @cached_property
    def _own(self) -> Run:
        return self.records.runs_named({self.run_id})[self.run_id]

    @property
    def _alike(self) -> list[str]:
        """Ids of other runs that measure as this one does. There may be new ones at any time; none ever changes."""
        ids = self.records.run_ids(self._own.source, self._own.corpus)
        within = self._comparable(set(ids) - {self.run_id})
        return [id for id in ids if id in within]

    def _comparable(self, run_ids: set[str]) -> set[str]:
        """Those of these runs that measure as this one does, itself among them."""
        self._learn(run_ids)
        return {id for id in run_ids if id in self._runs and self._runs[id].comparable}

    def _learn(self, run_ids: set[str]) -> None:
        """Have these runs at hand, but for those whose source is not known yet."""
        own, missing = self._own, run_ids - self._runs.keys()
        for run in self.records.runs_named(missing).values() if missing else ():
            if run.source_architecture is not None:
                # Many runs have one source.
                text = to_json(run.source_architecture)
                if text not in self._sources:
                    self._sources[text] = Architecture.model_validate(run.source_architecture)
                self._runs[run.id] = _known(run, own, self._sources[text])


class _KnownRun(NamedTuple):
    """What a run is to the one that asks: whether its source is the same, and whether figures compare."""

    reference: Architecture
    goal: GoalSettings
    same_source: bool
    comparable: bool
    origin: str
    ladder: tuple[str, ...]


def _known(run: Run, own: Run, reference: Architecture) -> _KnownRun:
    same_source = (run.source, run.source_architecture) == (own.source, own.source_architecture)
    comparable = run.id == own.id or ((run.source, run.corpus) == (own.source, own.corpus) and measured_alike(run, own))
    if run.id == own.id:
        origin = ""
    elif comparable:
        origin = "of another run"
    elif not same_source:
        origin = f"of another source model, {PurePath(run.source).name}, and relative to it"
    else:
        origin = "of another run on other text" if run.corpus != own.corpus else "of another run, trained otherwise"
    return _KnownRun(reference, goal_of(run), same_source, comparable, origin, told_ladder(run))
