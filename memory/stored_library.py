"""The library of a search of language models: the vector store says what is near, the records what came of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath

from memory.embeddings import embed_architecture
from memory.filters import Filter, Reach
from memory.library import Past
from memory.outcomes import change_of_score, describe_outcome, reason_of_failure, relative_outcome
from memory.records import Records
from memory.shapes import describe_shape
from memory.tables import Run
from memory.trial_records import measured_alike
from memory.vectors import VectorStore
from memory.views import TrialView
from tools.architecture import Architecture
from tools.settings import GoalSettings


@dataclass
class StoredLibrary:
    """What the search `run_id` may see of the past, as far as `reach` goes.

    Sizes fit within `sizes`, smallest and largest. Figures are given of what was measured just as the search measures:
    of its own trials, and of those of runs with its source, corpus, data and recipe. Of all else it is told only
    whether it was better than its own parent; and designs of another source are described relative to that.
    """

    records: Records
    vectors: VectorStore
    run_id: str
    goal: GoalSettings
    reference: Architecture
    sizes: tuple[int, int]
    reach: Reach = "same_source"
    _runs: dict[str, Run] = field(default_factory=dict, repr=False)
    _references: dict[str, Architecture] = field(default_factory=dict, repr=False)

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
        runs = [self.run_id, *(() if self.reach == "none" else self._alike)]
        return self.records.leading_trials(runs, k, self.goal.objective, self.sizes)

    def past(self, ids: Iterable[str]) -> dict[str, Past]:
        """From the records: what the vector store keeps beside its vectors may be of an older version."""
        found = {name: view for name, view in self.records.named_trials(ids).items() if view.measurement is not None}
        above = {name: f"{view.run_id}/{view.parent_number}" for name, view in found.items()}
        parents = self.records.named_trials(
            {above[name] for name, view in found.items() if view.parent_number is not None}
        )
        self._learn({view.run_id for view in found.values()})
        return {
            name: self._past(self._runs[view.run_id], view, parents.get(above[name]))
            for name, view in found.items()
            if self._runs[view.run_id].source_architecture is not None
        }

    def _past(self, run: Run, view: TrialView, parent: TrialView | None) -> Past:
        reference, comparable = self._reference(run), self._compares(run)
        change, same_source = change_of_score(view, parent), self._is_same_source(run)
        if comparable:
            # The limits and the objective are those of the search that asks.
            view = view.model_copy(update={"goal": self.goal})
            parent = None if parent is None else parent.model_copy(update={"goal": self.goal})
        words = describe_outcome(view, parent) if comparable else relative_outcome(view, parent)
        if reason := reason_of_failure(view):
            words = f"{words} ({reason})"
        excess = view.over_limit if comparable else None
        parameters, (smallest, largest) = view.architecture.parameters, self.sizes
        return Past(
            id=view.name,
            identity=view.identity,
            design=view.architecture.describe() if same_source else describe_shape(view.architecture, reference),
            outcome=words if excess is None else f"{words}, over the limit: {excess}",
            score=view.score if comparable else None,
            loss=view.loss if comparable else None,
            change=change,
            unusable=not view.succeeded or excess is not None,
            origin=self._origin(run, comparable),
            size=parameters / reference.parameters,
            fits=not same_source or smallest <= parameters <= largest,
            vector=embed_architecture(view.architecture, reference),
        )

    def _is_same_source(self, run: Run) -> bool:
        own = self._own
        return (run.source, run.source_architecture) == (own.source, own.source_architecture)

    def _origin(self, run: Run, comparable: bool) -> str:
        own = self._own
        if run.id == own.id:
            return ""
        if comparable:
            return "of another run"
        if not self._is_same_source(run):
            return f"of another source model, {PurePath(run.source).name}, and relative to it"
        return "of another run on other text" if run.corpus != own.corpus else "of another run, trained otherwise"

    def _reference(self, run: Run) -> Architecture:
        """The uncut source of a run."""
        if run.id not in self._references:
            self._references[run.id] = Architecture.model_validate(run.source_architecture)
        return self._references[run.id]

    def _compares(self, run: Run) -> bool:
        """Whether figures of that run compare with those of this one."""
        own = self._own
        same = (run.source, run.corpus) == (own.source, own.corpus)
        return run.id == own.id or (same and measured_alike(run, own))

    @cached_property
    def _own(self) -> Run:
        self._learn({self.run_id})
        return self._runs[self.run_id]

    @cached_property
    def _alike(self) -> frozenset[str]:
        return frozenset(self.records.runs_alike(self.run_id))

    def _learn(self, run_ids: set[str]) -> None:
        """Have these runs at hand."""
        self._runs |= self.records.runs_named(run_ids - self._runs.keys())
