"""The collections below the vector store: writing, and searching with conditions.

In a folder a table of the vectors answers. Else Chroma's index does. A condition is not left to Chroma then, which
would first list all that meets it: more neighbours than are wanted are looked at, and those that meet it are taken.
Only where these are too few is it rare enough for Chroma's own search among what meets it.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from memory.conditions import Where, chroma_conditions, matcher
from memory.open_collections import COLLECTIONS, SHAPES, CollectionName, OpenCollections
from memory.vector_rows import Row

# So many neighbours are looked at for those that meet a condition, before Chroma looks among what meets it.
_LOOKED_AT = (32, 400)
# Few meet this, so that all of them are compared with.
_RARE = "run_id"
_MOST_KEPT = 20_000


class VectorCollections(OpenCollections):
    """What is in the collections. All writes are upserts, so that repeating one is harmless."""

    def _open(self) -> None:
        self._kept: dict[CollectionName, dict[str, dict[str, Any]]] = {name: {} for name in COLLECTIONS}
        super()._open()

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
        known = {} if self._tables is None else self._tables.counts()
        if name in known:
            return known[name]
        with self._using(name):
            return self._collections[name].count()

    def counts(self) -> dict[CollectionName, int]:
        """How many entries each collection has."""
        return {name: self.count(name) for name in COLLECTIONS}

    def ids(self, name: CollectionName, among: Sequence[str] | None = None) -> set[str]:
        """All ids of a collection, or those of `among` that it has."""
        found = None if self._tables is None else self._tables.ids(name, among)
        if found is not None:
            return found
        if among is not None and not among:
            return set()
        with self._using(name):
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
        conditions = chroma_conditions(where)
        rows = self._query(name, k, vector, conditions)
        # Where it finds too few, Chroma's index may have missed some, or there are no more: both are quickly compared.
        return rows if len(rows) >= k else self._compared(name, vector, conditions)[:k]

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
            with self._using(name):
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
        if name in SHAPES:
            distances = ((vectors - asked) ** 2).sum(axis=1)
        else:
            distances = 1 - vectors @ asked / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(asked))
        order = np.argsort(distances, kind="stable")
        return [Row(found["ids"][at], float(distances[at]), found["metadatas"][at] or {}) for at in order]
