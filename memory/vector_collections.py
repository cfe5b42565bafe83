"""The Chroma folder below the vector store: opening it, telling whether it is broken, writing and querying."""

import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from memory.embeddings import ARCHITECTURE_DIMENSIONS, TEXT_DIMENSIONS
from tools.errors import InputError

if TYPE_CHECKING:
    import chromadb
    from filelock import BaseFileLock

CollectionName = Literal["architectures", "lessons", "prompts"]
COLLECTIONS: tuple[CollectionName, ...] = ("architectures", "lessons", "prompts")
Metadata = Mapping[str, str | int | float | bool | None]

# Chroma writes its index to disk after this many changes; until then they are in its log.
_SYNC_THRESHOLD = 1000


class BrokenStoreError(RuntimeError):
    """The folder of a vector store cannot be read. It is to be wiped and rebuilt."""


class VectorCollections:
    """A Chroma folder that this process alone owns: a second process would read stale vectors from it.

    All writes are upserts, so that repeating one is harmless.
    """

    def __init__(self, folder: Path, lock: "BaseFileLock | None" = None, temporary: bool = False) -> None:
        """Open or make the store. `lock` is let go and a `temporary` folder removed by `close`.

        Raises:
            BrokenStoreError: what is there cannot be read.
            InputError: the folder cannot be made.
        """
        self.folder = folder
        self.temporary = temporary
        self._lock = lock
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the folder of the vectors {folder} cannot be made ({error.strerror}); choose another place"
            ) from error
        self._open()

    def _open(self) -> None:
        from chromadb.api import ServerAPI
        from chromadb.api.client import Client
        from chromadb.config import Settings, System
        from chromadb.errors import ChromaError
        from chromadb.telemetry.product import ProductTelemetryClient

        from memory.text_embedding import HashedTextEmbedding

        # `PersistentClient` would keep a start that failed for the life of the process, under the folder's name.
        system = System(Settings(persist_directory=str(self.folder), is_persistent=True, anonymized_telemetry=False))
        system.instance(ProductTelemetryClient)  # type: ignore[type-abstract]
        system.instance(ServerAPI)  # type: ignore[type-abstract]
        try:
            system.start()
            self._client = Client.from_system(system)
        except (ChromaError, ValueError) as error:
            raise BrokenStoreError(str(error)) from error
        try:
            self._collections: dict[CollectionName, chromadb.Collection] = {}
            for name in COLLECTIONS:
                by_shape = name == "architectures"
                self._collections[name] = self._client.get_or_create_collection(
                    name,
                    configuration={
                        "hnsw": {"space": "l2" if by_shape else "cosine", "sync_threshold": _SYNC_THRESHOLD}
                    },
                    embedding_function=None if by_shape else HashedTextEmbedding(),  # type: ignore[arg-type]
                )
                self._probe(self._collections[name])
        except (ChromaError, ValueError, BrokenStoreError) as error:
            self._client.close()
            raise BrokenStoreError(str(error)) from error

    def _probe(self, collection: "chromadb.Collection") -> None:
        """Ask for more neighbours than Chroma's log can hold: a lost index is otherwise answered from the log alone."""
        wanted = min(collection.count(), 2 * _SYNC_THRESHOLD)
        if not wanted:
            return
        size = ARCHITECTURE_DIMENSIONS if collection.name == "architectures" else TEXT_DIMENSIONS
        found = collection.query(query_embeddings=[np.eye(1, size, dtype=np.float32)[0]], n_results=wanted, include=[])
        # The index is approximate: some may be missed.
        if len(found["ids"][0]) < 0.75 * wanted:
            raise BrokenStoreError(f"the index of {collection.name} is incomplete")

    def close(self) -> None:
        """Let go of the folder. Closing twice is harmless."""
        self._client.close()
        if self.temporary:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.release()

    def detach(self) -> None:
        """Close, but keep the lock and the folder for a store that is opened in this one's place."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wipe(self) -> None:
        """Empty all collections."""
        with self._named_failures():
            for name in COLLECTIONS:
                self._client.delete_collection(name)
        self._client.close()
        self._open()

    def counts(self) -> dict[CollectionName, int]:
        """How many entries each collection has."""
        return {name: collection.count() for name, collection in self._collections.items()}

    def ids(self, name: CollectionName) -> set[str]:
        """All ids of a collection."""
        return set(self._collections[name].get(include=[])["ids"])

    def delete(self, name: CollectionName, ids: Collection[str]) -> None:
        """Take entries out."""
        for batch in _batches(list(ids), self._client.get_max_batch_size()):
            with self._named_failures():
                self._collections[name].delete(ids=batch)

    def upsert(
        self,
        name: CollectionName,
        ids: list[str],
        metadatas: list[Any],
        documents: list[str],
        embeddings: list[Any] | None = None,
    ) -> None:
        """Put rows in, over those of the same ids; without embeddings the documents are embedded."""
        for batch in _batches(range(len(ids)), self._client.get_max_batch_size()):
            part = slice(batch[0], batch[-1] + 1)
            with self._named_failures():
                self._collections[name].upsert(
                    ids=ids[part],
                    metadatas=metadatas[part],
                    documents=documents[part],
                    embeddings=embeddings[part] if embeddings is not None else None,
                )

    def search(
        self, name: CollectionName, k: int, where: Mapping[str, Any] | None, **query: Any
    ) -> list[tuple[str, float, dict[str, Any], str]]:
        """The `k` nearest rows: id, distance, metadata, document."""
        if k < 1 or not self._collections[name].count():
            return []
        found: Any = self._collections[name].query(
            n_results=k, where=_where(where), include=["metadatas", "documents", "distances"], **query
        )
        rows = zip(*(found[part][0] for part in ("ids", "distances", "metadatas", "documents")), strict=True)
        return [(id, distance, dict(metadata or {}), document) for id, distance, metadata, document in rows]

    @contextmanager
    def _named_failures(self) -> Iterator[None]:
        from chromadb.errors import InternalError

        try:
            yield
        except InternalError as error:
            raise InputError(
                f"the vectors in {self.folder} could not be written ({error}); check that the disk has room"
            ) from error


def _where(where: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Chroma takes one condition; several, also several on one key, go below `$and`."""
    conditions = [
        {key: {operator: operand}} if operator else {key: operand}
        for key, wanted in (where or {}).items()
        for operator, operand in (wanted.items() if isinstance(wanted, Mapping) else [("", wanted)])
    ]
    return {"$and": conditions} if len(conditions) > 1 else next(iter(conditions), None)


def _batches(items: Any, size: int) -> Iterable[Any]:
    return (items[start : start + size] for start in range(0, len(items), size))
