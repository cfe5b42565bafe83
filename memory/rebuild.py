"""The vector store from the records: what goes in, in what words, and how the two are kept equal."""

import shutil
from collections.abc import Collection
from pathlib import Path

from filelock import FileLock, Timeout

from memory.outcomes import describe_outcome
from memory.records import Records
from memory.tables import Prompt
from memory.vector_collections import BrokenStoreError
from memory.vectors import VectorStore
from tools.architecture import Architecture
from tools.errors import InputError

_BATCH = 500  # trials in memory at a time


def open_vectors(shared_folder: Path, private_folder: Path, records: Records) -> VectorStore:
    """The vector store in `shared_folder`, brought in line with the records.

    A folder that is missing, broken or incomplete, or whose last opening ended the process, is made again. While
    another store has the shared folder, in this process or in another, a fresh one in `private_folder` takes its
    place, and is removed when it is closed.

    Raises:
        InputError: neither folder can be used.
    """
    lock = FileLock(shared_folder.with_name(f"{shared_folder.name}.lock"), blocking=False)
    try:
        shared_folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        folder, temporary = shared_folder, False
    except Timeout:
        shutil.rmtree(private_folder, ignore_errors=True)
        folder, temporary = private_folder, True
    except OSError as error:
        raise InputError(
            f"the folder of the vectors {shared_folder} cannot be used ({error.strerror}); choose another place"
        ) from error
    held = None if temporary else lock
    # Damaged index files can crash the whole process, beyond any exception: the next opening finds this mark.
    opening = folder.with_name(f"{folder.name}.opening")
    try:
        if opening.exists():
            shutil.rmtree(folder, ignore_errors=True)
        opening.parent.mkdir(parents=True, exist_ok=True)
        opening.touch()
        try:
            store = _open_and_reconcile(folder, held, temporary, records)
        except BrokenStoreError:
            shutil.rmtree(folder)
            store = _open_and_reconcile(folder, held, temporary, records)
        opening.unlink()
        return store
    except InputError:
        lock.release()
        raise
    except (OSError, BrokenStoreError) as error:
        lock.release()
        raise InputError(
            f"the vectors in {folder} are broken and cannot be made again ({error}); choose another place"
        ) from error


def _open_and_reconcile(folder: Path, lock: FileLock | None, temporary: bool, records: Records) -> VectorStore:
    from chromadb.errors import ChromaError

    store = VectorStore(folder, lock, temporary)
    try:
        reconcile_vectors(records, store)
    except ChromaError as error:
        store.detach()
        raise BrokenStoreError(str(error)) from error
    return store


def rebuild_vectors(records: Records, store: VectorStore) -> None:
    """Empty the store and fill it from the records."""
    store.wipe()
    reconcile_vectors(records, store)


def reconcile_vectors(records: Records, store: VectorStore) -> bool:
    """Compare counts; where they differ, add what the store lacks and take out what the records lack.

    Returns whether anything had to be done.
    """
    if store.counts() == records.indexed_counts():
        return False
    present = {name: store.ids(name) for name in ("architectures", "lessons", "prompts")}
    trials = records.indexed_trials()
    names = {f"{run_id}/{number}": lines for run_id, numbers in trials.items() for number, lines in numbers.items()}
    prompts = records.prompts()
    store.delete("architectures", present["architectures"] - names.keys())
    store.delete("lessons", present["lessons"] - {f"{name}/{line}" for name, n in names.items() for line in range(n)})
    store.delete("prompts", present["prompts"] - {prompt.hash for prompt in prompts})
    for run_id, numbers in trials.items():
        missing = [
            number
            for number, lines in numbers.items()
            if f"{run_id}/{number}" not in present["architectures"]
            or any(f"{run_id}/{number}/{line}" not in present["lessons"] for line in range(lines))
        ]
        for start in range(0, len(missing), _BATCH):
            index_trials(records, store, run_id, missing[start : start + _BATCH])
    index_prompts(store, [prompt for prompt in prompts if prompt.hash not in present["prompts"]])
    return True


def index_trials(records: Records, store: VectorStore, run_id: str, numbers: Collection[int] | None = None) -> None:
    """Put finished trials of a run into the store, all or those of these numbers: their designs and their lessons."""
    run = records.run(run_id)
    if run.source_architecture is None:
        return
    reference = Architecture.model_validate(run.source_architecture)
    wanted = [view for view in records.trials(run_id, numbers) if view.measurement]
    parents = {view.parent_number for view in wanted if view.parent_number is not None}
    views = {view.number: view for view in records.trials(run_id, parents)}
    beside = {
        view.number: {
            "source": run.source,
            "corpus": run.corpus,
            "outcome": describe_outcome(view, None if view.parent_number is None else views.get(view.parent_number)),
        }
        for view in wanted
    }
    store.add_trials([(view.name, view, reference, beside[view.number]) for view in wanted])
    store.add_lessons(
        [
            (
                f"{view.name}/{line}",
                text,
                {
                    **beside[view.number],
                    "run_id": run_id,
                    "number": view.number,
                    "stage": view.stage,
                    "proposer": view.proposer,
                    "loss": view.loss,
                    "succeeded": view.succeeded,
                },
            )
            for view in wanted
            for line, text in enumerate(view.rationale)
        ]
    )


def index_prompts(store: VectorStore, prompts: Collection[Prompt]) -> None:
    """Put prompts into the store, under their hashes."""
    store.add_prompts([(prompt.hash, prompt.text, {"name": prompt.name}) for prompt in prompts])
