"""What of the records goes into the vector store."""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from memory.bulk_records import FinishedTrial
from memory.indexed_trial import IndexedTrial
from memory.records import Records
from memory.tables import Prompt
from memory.values import storable
from memory.vectors import VectorStore
from tools.architecture import Architecture

_PIECE = 500
"""So many trials go into the store at once, and more where the next run has more."""


def index_trials(records: Records, store: VectorStore, run_id: str, numbers: Collection[int] | None = None) -> None:
    """Put finished trials of a run into the store, all or those of these numbers: their designs and their lessons."""
    store.add_trials(records.indexable_trials(run_id, numbers))


def record_trials(records: Records, store: VectorStore, finished: Mapping[str, Sequence[FinishedTrial]]) -> None:
    """Write finished trials down in the records, by run, and then put them into the store, several runs at once.

    While some go into the store the next ones are written down. What is there already stays as it is. See
    `BulkRecords.add_finished_trials`, whose errors it raises.
    """
    with ThreadPoolExecutor(1) as behind:
        added, waiting = list[Future[None]](), list[IndexedTrial]()
        for run_id, trials in finished.items():
            waiting += _recorded(records, run_id, trials)
            if len(waiting) >= _PIECE:
                added.append(behind.submit(store.add_trials, waiting))
                waiting = []
        added.append(behind.submit(store.add_trials, waiting))
        for piece in added:
            piece.result()


def _recorded(records: Records, run_id: str, trials: Sequence[FinishedTrial]) -> list[IndexedTrial]:
    """Write trials of a run down; as the store takes them."""
    places = records.add_finished_trials(run_id, trials)
    run = records.run(run_id)
    if run.source_architecture is None:
        return []
    reference = Architecture.model_validate(run.source_architecture)
    entries = [
        IndexedTrial(
            run_id,
            place.number,
            run.source,
            run.corpus,
            one.evaluation.fidelity,
            one.evaluation.status == "done",
            one.architecture,
            reference,
            storable(one.proposal.rationale),
        )
        for place, one in zip(places, trials, strict=True)
        if place.is_new
    ]
    known = {place.number for place in places if not place.is_new}
    return [*entries, *(records.indexable_trials(run_id, known) if known else [])]


def index_prompts(store: VectorStore, prompts: Sequence[Prompt]) -> None:
    """Put prompts into the store, under their hashes."""
    store.add_prompts([(prompt.hash, prompt.text, {"name": prompt.name}) for prompt in prompts])
