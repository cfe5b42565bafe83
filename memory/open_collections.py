"""The collections of one Chroma: opened, put in order, closed, and what becomes of failures.

With a vector go only the few fields that searches narrow by, since every field is rows of Chroma's database and takes
its time. In a folder a table of the vectors stands beside each collection, as long as there are not too many
(`memory.vector_tables`): what is in doubt after a kill is put back from it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from memory.chroma_client import SYNC_THRESHOLD, BrokenStoreError, open_folder, open_server, unreachable
from memory.embeddings import ARCHITECTURE_DIMENSIONS, ARCHITECTURE_EMBEDDING
from memory.folder_use import FolderUse
from memory.leftovers import drop_collections, remove_leftovers
from memory.progress import VECTORS, Told, nobody
from memory.seal import seal, sealed_rows
from memory.shared_folder import Claim
from memory.text_embedding import HASHED, OPENAI, TextEmbedding
from memory.vector_tables import TableShape, VectorTables
from tools.errors import InputError
from tools.failures import FULL_DISK

if TYPE_CHECKING:
    import chromadb

CollectionName = Literal["architectures", "failures", "lessons", "prompts"]
COLLECTIONS: tuple[CollectionName, ...] = ("architectures", "failures", "lessons", "prompts")
"""Of designs, those that failed are apart: they are few, and looked for among themselves."""
Metadata = Mapping[str, str | int | float | bool | None]
SHAPES = ("architectures", "failures")
"""Collections whose distances are Euclidean."""

_LAYOUT = 2
"""Whoever changes what is kept with the vectors counts on, and stores are made again."""

# So many candidates are kept on the way to the nearest. Sentences are all about equally far from one another.
_CANDIDATES = {"architectures": 200, "failures": 200, "lessons": 1500, "prompts": 200}


class OpenCollections:
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

        self._tables: VectorTables | None = None
        self._sealed: dict[str, int] = {}
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
        if not self.in_doubt:
            self._sealed = sealed_rows(folder)

    def _open_folder(self, folder: Path) -> None:
        with self._use.kept_still():
            self._open_collections()
            tables = VectorTables(folder, {name: self._table_shape(name) for name in COLLECTIONS})
        for name in COLLECTIONS:
            if name in self._use.doubtful:
                self._put_back(name, tables)
        for name in COLLECTIONS:
            if tables.adopt(name, self._sealed.get(self._stored_name(name))):
                continue
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
                        "space": "l2" if name in SHAPES else "cosine",
                        "sync_threshold": SYNC_THRESHOLD,
                        "ef_search": _CANDIDATES[name],
                    }
                },
                embedding_function=None,
            )
            for name in COLLECTIONS
        }

    def _table_shape(self, name: CollectionName) -> TableShape:
        dimensions = ARCHITECTURE_DIMENSIONS if name in SHAPES else self.embedding.dimensions
        return TableShape(self._stored_name(name), dimensions, name in SHAPES)

    def _stored_name(self, name: CollectionName) -> str:
        embedding = ARCHITECTURE_EMBEDDING if name in SHAPES else self.embedding.name
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
        rows = {} if self._tables is None else self._tables.counts()
        self.detach()
        if isinstance(self.place, Path) and self._use.is_sound:
            with suppress(OSError), self._use.kept_still():
                # Without it the next opening takes longer.
                seal(self.place, {self._stored_name(name): rows[name] for name in COLLECTIONS if name in rows})
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

    def _put(self, name: CollectionName, ids: Sequence[str], embeddings: Any, rows: Sequence[dict[str, Any]]) -> None:
        self._collections[name].upsert(ids=list(ids), embeddings=embeddings, metadatas=list(rows))

    def _parts(self, count: int) -> Iterator[slice]:
        """So many entries at once as Chroma takes."""
        most = self._client.get_max_batch_size()
        return (slice(start, start + most) for start in range(0, count, most))

    @contextmanager
    def _using(self, *names: CollectionName) -> Iterator[None]:
        """For whatever asks or tells Chroma something of these: even to count loads an index that is not loaded yet."""
        from chromadb.errors import ChromaError
        from httpx import TransportError

        try:
            with self._use.of(*names):
                yield
        except (ChromaError, TransportError) as error:
            raise self._failure(error) from error

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
