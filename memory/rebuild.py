"""The vector store from the records: opening it, making it again, and keeping the two equal."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from memory.chroma_client import BrokenStoreError
from memory.indexing import index_prompts, index_trials
from memory.leftovers import has_only_tables, remove_index
from memory.open_collections import COLLECTIONS, CollectionName
from memory.progress import HALF_WRITTEN, MADE_AGAIN, TRIALS, Told, nobody
from memory.records import Records
from memory.shared_folder import Claim, SharedFolder
from memory.text_embedding import HASHED, TextEmbedding
from memory.use_mark import EVERYTHING
from memory.vectors import VectorStore
from tools.errors import InputError

__all__ = ["index_prompts", "index_trials", "open_vectors", "rebuild_vectors", "reconcile_vectors"]

_BATCH = 1000  # trials in memory at a time
_NEWEST = 50
_DESIGNS: tuple[CollectionName, ...] = ("architectures", "failures")


def open_vectors(
    shared_folder: Path,
    private_folder: Path,
    records: Records,
    url: str | None = None,
    embedding: TextEmbedding = HASHED,
    told: Told = nobody,
) -> VectorStore:
    """The vector store in `shared_folder`, or on the Chroma server at `url`, brought in line with the records.

    A folder that is missing, broken or incomplete is made again, and so is what its last owner was at when it ended:
    from our own tables as far as these go, and else from the records. While another store has the shared folder, in
    this process or in another, a copy in `private_folder` takes its place, and is removed when it is closed. A server
    is shared by all who use it, each set of records with its own collections. `told` hears of what takes long.

    Raises:
        InputError: neither folder can be used, the server cannot be reached, or texts cannot be embedded.
    """
    if url is not None:
        return _reconciled(VectorStore(url, embedding=embedding, prefix=f"{records.identity}-"), records, told)
    try:
        shared_folder.parent.mkdir(parents=True, exist_ok=True)
        claim = SharedFolder(shared_folder).take_or_copy(private_folder)
    except OSError as error:
        raise InputError(
            f"the folder of the vectors {shared_folder} cannot be used ({error.strerror}); choose another place"
        ) from error

    def opened(claim: Claim) -> VectorStore:
        return _reconciled(VectorStore(claim.path, claim, embedding, told=told), records, told)

    with ExitStack() as stack:
        # Where this fails the next opening looks at what it left.
        stack.callback(claim.release, in_order=False)
        try:
            if claim.doubtful and claim.path.exists():
                told(HALF_WRITTEN, 0, 0)
            try:
                if has_only_tables(claim.path):
                    raise BrokenStoreError(f"the database of the vectors in {claim.path} is gone")
                store = opened(claim)
            except BrokenStoreError:
                told(MADE_AGAIN, 0, 0)
                remove_index(claim.path)
                store = opened(replace(claim, doubtful=frozenset({EVERYTHING})))
        except (OSError, BrokenStoreError) as error:
            raise InputError(
                f"the vectors in {claim.path} are broken and cannot be made again ({error}); choose another place"
            ) from error
        stack.pop_all()
        return store


def _reconciled(store: VectorStore, records: Records, told: Told) -> VectorStore:
    try:
        reconcile_vectors(records, store, told, thorough=store.in_doubt)
        store.settle()
    except InputError:
        store.detach()
        raise
    return store


def rebuild_vectors(records: Records, store: VectorStore) -> None:
    """Empty the store and fill it from the records."""
    store.wipe()
    reconcile_vectors(records, store)


def reconcile_vectors(records: Records, store: VectorStore, told: Told = nobody, thorough: bool = False) -> bool:
    """Compare counts and the newest; where they differ, add what the store lacks, take out what the records lack.

    Lessons are not counted: they go in before their designs, and what could not be put in is marked. With `thorough`
    all is compared.
    Returns whether anything had to be done.
    """
    counts = store.counts()
    designs = counts["architectures"] + counts["failures"]
    if not thorough and (designs, counts["prompts"]) == (records.indexed_designs(), records.prompt_count()):
        newest = records.newest_indexed(_NEWEST)
        if sum(len(store.ids(name, newest)) for name in _DESIGNS) == len(newest):
            return False
    # The store first: what is put in meanwhile was in the records before.
    present = {name: store.ids(name) for name in COLLECTIONS}
    trials = records.indexed_trials()
    names = {f"{run_id}/{number}": lines for run_id, numbers in trials.items() for number, lines in numbers.items()}
    prompts = records.prompts()
    for name in _DESIGNS:
        store.delete(name, present[name] - names.keys())
    store.delete("lessons", present["lessons"] - {f"{name}/{line}" for name, n in names.items() for line in range(n)})
    designs_there, lacking = present["architectures"] | present["failures"], list[tuple[str, int]]()
    for run_id, numbers in trials.items():
        lacking += [
            (run_id, number)
            for number, lines in numbers.items()
            if f"{run_id}/{number}" not in designs_there
            or any(f"{run_id}/{number}/{line}" not in present["lessons"] for line in range(lines))
        ]
    for start in range(0, len(lacking), _BATCH):
        batch: dict[str, list[int]] = {}
        for run_id, number in lacking[start : start + _BATCH]:
            batch.setdefault(run_id, []).append(number)
        store.add_trials([one for run_id, some in batch.items() for one in records.indexable_trials(run_id, some)])
        told(TRIALS, min(start + _BATCH, len(lacking)), len(lacking))
    index_prompts(store, [prompt for prompt in prompts if prompt.hash not in present["prompts"]])
    # Last, since the mark that something is missing is among them.
    store.delete("prompts", present["prompts"] - {prompt.hash for prompt in prompts})
    return True
