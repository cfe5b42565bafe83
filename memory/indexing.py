"""What of the records goes into the vector store."""

from collections.abc import Collection, Mapping, Sequence

from memory.bulk_records import FinishedTrial
from memory.indexed_trial import IndexedTrial
from memory.records import Records
from memory.tables import Prompt
from memory.values import storable
from memory.vectors import VectorStore
from tools.architecture import Architecture


def index_trials(records: Records, store: VectorStore, run_id: str, numbers: Collection[int] | None = None) -> None:
    """Put finished trials of a run into the store, all or those of these numbers: their designs and their lessons."""
    store.add_trials(records.indexable_trials(run_id, numbers))


def record_trials(records: Records, store: VectorStore, finished: Mapping[str, Sequence[FinishedTrial]]) -> None:
    """Write finished trials down in the records, by run, and then put them into the store, all runs at once.

    What is there already stays as it is. See `BulkRecords.add_finished_trials`, whose errors it raises.
    """
    entries: list[IndexedTrial] = []
    for run_id, trials in finished.items():
        places = records.add_finished_trials(run_id, trials)
        run = records.run(run_id)
        if run.source_architecture is None:
            continue
        reference = Architecture.model_validate(run.source_architecture)
        entries += [
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
        entries += records.indexable_trials(run_id, known) if known else []
    store.add_trials(entries)


def index_prompts(store: VectorStore, prompts: Sequence[Prompt]) -> None:
    """Put prompts into the store, under their hashes."""
    store.add_prompts([(prompt.hash, prompt.text, {"name": prompt.name}) for prompt in prompts])
