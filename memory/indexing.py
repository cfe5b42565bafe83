"""What of the records goes into the vector store, and in what words."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from memory.outcomes import describe_outcome
from memory.records import Records
from memory.tables import Prompt, Run
from memory.vector_collections import Metadata
from memory.vectors import VectorStore
from memory.views import TrialView
from tools.architecture import Architecture


@dataclass
class Entries:
    """Designs and lessons on their way into the store, as `add_trials` and `add_lessons` take them."""

    trials: list[tuple[str, TrialView, Architecture, Metadata]] = field(default_factory=list)
    lessons: list[tuple[str, str, Metadata]] = field(default_factory=list)

    def take(self, records: Records, run: Run, numbers: Collection[int] | None = None) -> None:
        """The finished trials of a run, all or those of these numbers."""
        if run.source_architecture is None:
            return
        reference = Architecture.model_validate(run.source_architecture)
        views = {view.number: view for view in records.trials(run.id, numbers)}
        parents = {view.parent_number for view in views.values() if view.parent_number is not None} - views.keys()
        parents_of = views | ({view.number: view for view in records.trials(run.id, parents)} if parents else {})
        for view in views.values():
            if view.measurement is not None:
                parent = None if view.parent_number is None else parents_of.get(view.parent_number)
                self._add(run, reference, view, describe_outcome(view, parent))

    def _add(self, run: Run, reference: Architecture, view: TrialView, outcome: str) -> None:
        beside: dict[str, Any] = {"source": run.source, "corpus": run.corpus, "outcome": outcome}
        self.trials.append((view.name, view, reference, beside))
        about = {
            **beside,
            "run_id": view.run_id,
            "number": view.number,
            "stage": view.stage,
            "proposer": view.proposer,
            "loss": view.loss,
            "succeeded": view.succeeded,
        }
        self.lessons += [(f"{view.name}/{line}", text, about) for line, text in enumerate(view.rationale)]

    def put_into(self, store: VectorStore) -> None:
        """Write all of them, and be empty again."""
        # A design that is there has its lessons there, also after a kill in the middle.
        store.add_lessons(self.lessons)
        store.add_trials(self.trials)
        self.trials, self.lessons = [], []


def index_trials(records: Records, store: VectorStore, run_id: str, numbers: Collection[int] | None = None) -> None:
    """Put finished trials of a run into the store, all or those of these numbers: their designs and their lessons."""
    entries = Entries()
    entries.take(records, records.run(run_id), numbers)
    entries.put_into(store)


def index_runs(records: Records, store: VectorStore, runs: Sequence[str], batch: int = 1000) -> None:
    """Put all finished trials of several runs into the store, so many at a time, since each writing has its price."""
    entries = Entries()
    for run_id in runs:
        entries.take(records, records.run(run_id))
        if len(entries.trials) >= batch:
            entries.put_into(store)
    entries.put_into(store)


def index_prompts(store: VectorStore, prompts: Sequence[Prompt]) -> None:
    """Put prompts into the store, under their hashes."""
    store.add_prompts([(prompt.hash, prompt.text, {"name": prompt.name}) for prompt in prompts])
