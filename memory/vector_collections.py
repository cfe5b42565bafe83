"""The collections below the vector store: what is kept with each vector, writing, and searching with conditions.

With a vector go only the few fields that searches narrow by, since every field is rows of Chroma's database and takes
its time. In a folder a table of the vectors answers, as long as there are not too many (`memory.vector_tables`).

Else Chroma's index does. A condition is not left to Chroma then, which would first list all that meets it: more
neighbours than are wanted are looked at, and those that meet it are taken. Only where these are too few is it rare
enough for Chroma's own search among what meets it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from memory.chroma_client import SYNC_THRESHOLD, BrokenStoreError, open_folder, open_server, unreachable
from memory.conditions import Where, chroma_conditions, matcher
from memory.embeddings import ARCHITECTURE_DIMENSIONS, ARCHITECTURE_EMBEDDING
from memory.folder_use import FolderUse
from memory.leftovers import drop_collections, remove_leftovers
from memory.progress import VECTORS, Told, nobody
from memory.shared_folder import Claim
from memory.text_embedding import HASHED, OPENAI, TextEmbedding
from memory.vector_rows import Row
from memory.vector_tables import TableShape, VectorTables
from tools.errors import InputError
from tools.failures import FULL_DISK

if TYPE_CHECKING:
    import chromadb

CollectionName = Literal["architectures", "failures", "lessons", "prompts"]
COLLECTIONS: tuple[CollectionName, ...] = ("architectures", "failures", "lessons", "prompts")
"""Of designs, those that failed are apart: they are few, and looked for among themselves."""
Metadata = Mapping[str, str | int | float | bool | None]

_SHAPES = ("architectures", "failures")
_LAYOUT = 2
"""Whoever changes what is kept with the vectors counts on, and stores are made again."""

# So many candidates are kept on the way to the nearest. Sentences are all about equally far from one another.
_CANDIDATES = {"architectures": 200, "failures": 200, "lessons": 1500, "prompts": 200}
# So many neighbours are looked at for those that meet a condition, before Chroma looks among what meets it.
_LOOKED_AT = (32, 400)
# Few meet this, so that all of them are compared with.
_RARE = "run_id"
_MOST_KEPT = 20_000


class VectorCollections:
    """Collections of one Chroma, in a folder that this process alone owns, or on a server that several may use.

    A second process on a folder would read stale vectors from it. All writes are upserts, so that repeating one is
    harmless. Vectors of different embeddings are in different collections, by the embedding's name.
    """

    def __init__(
        self,
        place: Path | str,
        claim: Claim | None = None,
        embedding: TextEmbedding = HASHED,
        prefix: str = "",
        told: Told = nobody,
    ) -> None:
        """Open or make the store in a folder, or on the server of a URL. `claim`, on the folder, is let go by `close`.

        `prefix` begins the names of all collections. `told` hears of what takes long. Collections that were in use when
        the last owner of the folder ended are filled from their tables anew, and stay `in_doubt`: some may be missing.

        Raises:
            BrokenStoreError: what is in the folder cannot be read.
            InputError: the folder cannot be made, or the server cannot be reached.
        """
        self.place = place
        self.embedding = embedding
        self._prefix, self._told = prefix, told
        self._use = FolderUse(claim, COLLECTIONS)
        self._open()

    @property
    def folder(self) -> Path:
        """The folder of the store. ValueError where it is on a server."""
        if isinstance(self.place, str):
            raise ValueError(f"the vectors are on the server {self.place}")
        return self.place

    def _open(self) -> None:
        from chromadb.errors import ChromaError

        self._kept: dict[CollectionName, dict[str, dict[str, Any]]] = {name: {} for name in COLLECTIONS}
        self._tables: VectorTables | None = None
        self._use.note()
        with self._use.kept_still():
            if isinstance(self.place, Path):
                self._clear_away(self.place)
            self._client = open_server(self.place) if isinstance(self.place, str) else open_folder(self.place)
        try:
            if isinstance(self.place, Path):
                self._open_folder(self.place)
            else:
                self._open_collections()
        except (ChromaError, ValueError, BrokenStoreError) as error:
            self.detach()
            raise error if isinstance(error, BrokenStoreError) else self._failure(error) from error

    @property
    def in_doubt(self) -> bool:
        """Whether entries may be missing, since they were put back from a table."""
        return bool(self._use.doubtful)

    def settle(self) -> None:
        """Nothing is missing any more."""
        self._use.settle()

    def _clear_away(self, folder: Path) -> None:
        if self.in_doubt and folder.exists():
            drop_collections(folder, [self._stored_name(name) for name in COLLECTIONS if name in self._use.doubtful])
        remove_leftovers(folder)
        _require_whole(folder)

    def _open_folder(self, folder: Path) -> None:
        with self._use.kept_still():
            self._open_collections()
            tables = VectorTables(folder, {name: self._table_shape(name) for name in COLLECTIONS})
        for name in COLLECTIONS:
            if name in self._use.doubtful:
                self._put_back(name, tables)
        for name in COLLECTIONS:
            with self._use.of(name):
                tables.open(name, self._collections[name], self._probe(name), self._told)
        self._tables = tables
        with self._use.kept_still():
            self._drop_outdated()

    def _put_back(self, name: CollectionName, tables: VectorTables) -> None:
        done = 0
        for rows, total in tables.salvaged(name):
            # Not all of it at once: another process may wait to copy the folder.
            with self._use.of(name):
                for part in self._parts(len(rows.ids)):
                    self._put(name, rows.ids[part], rows.vectors[part], rows.metadatas[part])
            done += len(rows.ids)
            self._told(VECTORS, done, total)

    def _open_collections(self) -> None:
        self._collections: dict[CollectionName, chromadb.Collection] = {
            name: self._client.get_or_create_collection(
                self._stored_name(name),
                configuration={
                    "hnsw": {
                        "space": "l2" if name in _SHAPES else "cosine",
                        "sync_threshold": SYNC_THRESHOLD,
                        "ef_search": _CANDIDATES[name],
                    }
                },
                embedding_function=None,
            )
            for name in COLLECTIONS
        }

    def _table_shape(self, name: CollectionName) -> TableShape:
        dimensions = ARCHITECTURE_DIMENSIONS if name in _SHAPES else self.embedding.dimensions
        return TableShape(self._stored_name(name), dimensions, name in _SHAPES)

    def _stored_name(self, name: CollectionName) -> str:
        embedding = ARCHITECTURE_EMBEDDING if name in _SHAPES else self.embedding.name
        return f"{self._prefix}{name}{_LAYOUT}-{embedding}"

    def _probe(self, name: CollectionName) -> int:
        """Ask for more neighbours than Chroma's log can hold: a lost index is otherwise answered from the log alone.

        Returns how many entries there are.
        """
        collection = self._collections[name]
        count = collection.count()
        wanted = min(count, 2 * SYNC_THRESHOLD)
        if not wanted:
            return count
        stored = collection.get(limit=1, include=["embeddings"])["embeddings"]
        if stored is None or not len(stored):
            raise BrokenStoreError(f"the vectors of {name} cannot be read")
        found = collection.query(query_embeddings=np.asarray(stored), n_results=wanted, include=[])
        # The index is approximate: some may be missed.
        if len(found["ids"][0]) < 0.75 * wanted:
            raise BrokenStoreError(f"the index of {name} is incomplete")
        return count

    def _drop_outdated(self) -> None:
        """Collections of earlier versions of our own embeddings serve nobody; those of a server's model cost money."""
        kept = {self._stored_name(name) for name in COLLECTIONS}
        for collection in self._client.list_collections():
            embedding = collection.name.partition("-")[2]
            if collection.name not in kept and embedding != HASHED.name and not embedding.startswith(OPENAI):
                self._client.delete_collection(collection.name)

    def close(self) -> None:
        """Let go of the store. Closing twice is harmless."""
        self.detach()
        self._use.end()

    def detach(self) -> None:
        """Close, but keep the folder for a store that is opened in this one's place."""
        if self._tables is not None:
            self._tables.close()
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wipe(self) -> None:
        """Empty all collections."""
        with self._writing(*COLLECTIONS):
            for name in COLLECTIONS:
                self._client.delete_collection(self._stored_name(name))
            if self._tables is not None:
                self._tables.remove()
        self._client.close()
        self._open()

    def count(self, name: CollectionName) -> int:
        """How many entries a collection has."""
        with self._reading():
            return self._collections[name].count()

    def counts(self) -> dict[CollectionName, int]:
        """How many entries each collection has."""
        with self._reading():
            return {name: collection.count() for name, collection in self._collections.items()}

    def ids(self, name: CollectionName, among: Sequence[str] | None = None) -> set[str]:
        """All ids of a collection, or those of `among` that it has."""
        with self._reading():
            if among is not None and not among:
                return set()
            return set(self._collections[name].get(ids=None if among is None else list(among), include=[])["ids"])

    def delete(self, name: CollectionName, ids: Collection[str]) -> None:
        """Take entries out."""
        for id in ids:
            self._kept[name].pop(id, None)
        listed = list(ids)
        for part in self._parts(len(listed)):
            batch = listed[part]
            with self._writing(name):
                self._collections[name].delete(ids=batch)
                if self._tables is not None:
                    self._tables.delete(name, batch)

    def upsert(
        self, name: CollectionName, ids: Sequence[str], embeddings: Any, metadatas: Sequence[dict[str, Any]]
    ) -> None:
        """Put rows in, over those of the same ids: ids, vectors [rows, dimensions], what is known of each."""
        # Chroma has no place for missing values.
        rows = [{key: value for key, value in metadata.items() if value is not None} for metadata in metadatas]
        for id in ids:
            self._kept[name].pop(id, None)
        for part in self._parts(len(ids)):
            with self._writing(name):
                self._put(name, ids[part], embeddings[part], rows[part])
                if self._tables is not None:
                    self._tables.upsert(name, ids[part], embeddings[part], rows[part])

    def _put(self, name: CollectionName, ids: Sequence[str], embeddings: Any, rows: Sequence[dict[str, Any]]) -> None:
        self._collections[name].upsert(ids=list(ids), embeddings=embeddings, metadatas=list(rows))

    def _parts(self, count: int) -> Iterator[slice]:
        """So many entries at once as Chroma takes."""
        most = self._client.get_max_batch_size()
        return (slice(start, start + most) for start in range(0, count, most))

    def search(self, name: CollectionName, k: int, where: Where | None, vector: Any) -> list[Row]:
        """The `k` nearest rows that meet the conditions, nearest first; fewer where there are fewer."""
        if k < 1:
            return []
        found = None if self._tables is None else self._tables.search(name, k, where or {}, vector)
        if found is not None:
            return found
        if not where:
            return self._query(name, k, vector, None)
        if _RARE in where:
            return self._compared(name, vector, chroma_conditions(where))[:k]
        meet, count = matcher(where), max(_LOOKED_AT[0], 4 * k)
        most = max(_LOOKED_AT[1], 16 * k)
        while count <= most:
            rows = self._query(name, count, vector, None)
            fitting = [row for row in rows if meet(row.metadata)]
            if len(fitting) >= k or (len(rows) < count and len(rows) >= self._collections[name].count()):
                return fitting[:k]
            # So many as would do if those behind met the conditions as often, and half as many again.
            expected = 3 * k * len(rows) // (2 * len(fitting)) if fitting else most
            count = max(2 * count, min(expected, most))
        return self._query(name, k, vector, chroma_conditions(where))

    def _query(self, name: CollectionName, count: int, vector: Any, conditions: dict[str, Any] | None) -> list[Row]:
        with self._using(name):
            found: Any = self._collections[name].query(
                query_embeddings=[vector], n_results=count, where=conditions, include=["distances"]
            )
        ids, distances = found["ids"][0], found["distances"][0]
        metadatas = self._metadatas(name, ids)
        return [
            Row(id, distance, metadatas[id]) for id, distance in zip(ids, distances, strict=True) if id in metadatas
        ]

    def _metadatas(self, name: CollectionName, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What is kept with these vectors. To read it takes longer than to find them, so that what was read is kept."""
        kept = self._kept[name]
        if len(kept) > _MOST_KEPT:
            kept.clear()
        if missing := [id for id in ids if id not in kept]:
            with self._reading():
                found: Any = self._collections[name].get(ids=missing, include=["metadatas"])
            kept |= {id: metadata or {} for id, metadata in zip(found["ids"], found["metadatas"], strict=True)}
        return kept

    def _compared(self, name: CollectionName, vector: Any, conditions: dict[str, Any] | None) -> list[Row]:
        """All that meets the conditions, nearest first."""
        with self._using(name):
            found: Any = self._collections[name].get(where=conditions, include=["metadatas", "embeddings"])
        if not found["ids"]:
            return []
        vectors, asked = np.asarray(found["embeddings"], dtype=np.float64), np.asarray(vector, dtype=np.float64)
        if name in _SHAPES:
            distances = ((vectors - asked) ** 2).sum(axis=1)
        else:
            distances = 1 - vectors @ asked / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(asked))
        order = np.argsort(distances, kind="stable")
        return [Row(found["ids"][at], float(distances[at]), found["metadatas"][at] or {}) for at in order]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """For what reads the database alone."""
        from chromadb.errors import ChromaError
        from httpx import TransportError

        try:
            with self._use.kept_still():
                yield
        except (ChromaError, TransportError) as error:
            raise self._failure(error) from error

    @contextmanager
    def _using(self, *names: CollectionName) -> Iterator[None]:
        """For what reads or writes the indexes of these collections."""
        with self._reading(), self._use.of(*names):
            yield

    @contextmanager
    def _writing(self, *names: CollectionName) -> Iterator[None]:
        from chromadb.errors import InternalError

        with self._using(*names):
            try:
                yield
            except InternalError as error:
                if "disk is full" in str(error):
                    raise InputError(f"{FULL_DISK} What the vectors in {self.place} lack is put in then.") from error
                raise InputError(
                    f"the vectors in {self.place} could not be written ({error}); check that the disk has room: the "
                    "next start makes again what is damaged"
                ) from error

    def _failure(self, error: Exception) -> InputError:
        if isinstance(self.place, str):
            return unreachable(self.place, error)
        self._use.doubtful.update(COLLECTIONS)
        return BrokenStoreError(
            f"the vectors in {self.place} cannot be read ({error}); the next start makes them again"
        )


def _require_whole(folder: Path) -> None:
    """Refuse an index that was written with a file of no length: Chroma would read memory that nobody has written."""
    for written in folder.glob("*/index_metadata.pickle"):
        for file in written.parent.iterdir():
            if file.stat().st_size == 0:
                raise BrokenStoreError(f"the vectors in {folder} cannot be read: {file.name} is empty")
