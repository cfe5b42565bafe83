"""The tables beside the collections of one folder: kept equal to them, and taken away where they are of no use.

A table is never more than a quicker way to what Chroma has: whatever goes wrong with one, Chroma's index answers, and
the next opening makes the table again.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from memory.conditions import Where
from memory.progress import TABLE_ROWS, Told
from memory.table_files import BrokenTableError, files_of
from memory.vector_rows import Row
from memory.vector_table import Rows, VectorTable

if TYPE_CHECKING:
    import chromadb

_LARGEST = 400_000_000
"""Bytes of vectors; more take longer to compare with than an index takes to look up."""
_BATCH = 5000  # rows in memory at a time


class TableShape(NamedTuple):
    """The name of a collection in its folder, the length of its vectors, and whether distances are Euclidean."""

    stored_name: str
    dimensions: int
    euclidean: bool


class VectorTables:
    """One table for each of some collections of a folder that this process alone writes in."""

    def __init__(self, folder: Path, shapes: Mapping[str, TableShape]) -> None:
        self._folder, self._shapes = folder, shapes
        self._tables: dict[str, VectorTable] = {}
        self._opened = list[VectorTable]()
        current = {file for shape in shapes.values() for file in files_of(folder / shape.stored_name)}
        for rows in folder.glob("*.rows"):
            for file in files_of(rows.with_suffix("")):
                if file not in current:
                    _unlink(file)

    def salvaged(self, name: str) -> Iterator[tuple[Rows, int]]:
        """What the table of a collection holds, before it is opened: some rows at a time, and of how many.

        Where there is no table there are none; where one is damaged there are no more.
        """
        shape = self._shapes[name]
        path = self._folder / shape.stored_name
        if not all(file.exists() for file in files_of(path)):
            return
        with (
            suppress(OSError, BrokenTableError),
            closing(VectorTable(path, shape.dimensions, shape.euclidean)) as table,
        ):
            for rows in table.batches(_BATCH):
                yield rows, len(table)

    def adopt(self, name: str, count: int | None) -> bool:
        """Open the table of a collection as it is, where it has `count` rows; returns whether it has."""
        shape = self._shapes[name]
        path = self._folder / shape.stored_name
        if count is None or not all(file.exists() for file in files_of(path)):
            return False
        try:
            table = VectorTable(path, shape.dimensions, shape.euclidean)
        except OSError:
            return False
        if len(table) != count:
            table.close()
            return False
        self._opened.append(table)
        self._tables[name] = table
        return True

    def open(self, name: str, collection: "chromadb.Collection", count: int, told: Told) -> None:
        """Open the table of a collection that has `count` entries, and bring it in line with it; `told` hears of it."""
        shape = self._shapes[name]
        if count * shape.dimensions * 4 > _LARGEST:
            self._take_away(name)
            return
        for _attempt in range(2):
            try:
                self._fill(name, shape, collection, count, told)
                return
            except (OSError, BrokenTableError):
                # What is damaged goes, and is made from nothing.
                self._take_away(name)

    def _fill(self, name: str, shape: TableShape, collection: "chromadb.Collection", count: int, told: Told) -> None:
        table = VectorTable(self._folder / shape.stored_name, shape.dimensions, shape.euclidean)
        self._opened.append(table)
        self._tables[name] = table
        if len(table) == count:
            return
        present, wanted = table.ids(), collection.get(include=[])["ids"]
        table.delete(present - set(wanted))
        missing = [id for id in wanted if id not in present]
        for start in range(0, len(missing), _BATCH):
            found: Any = collection.get(ids=missing[start : start + _BATCH], include=["embeddings", "metadatas"])
            if found["ids"]:
                table.upsert(found["ids"], found["embeddings"], [one or {} for one in found["metadatas"]])
            told(TABLE_ROWS, min(start + _BATCH, len(missing)), len(missing))

    def upsert(self, name: str, ids: Sequence[str], vectors: Any, metadatas: Sequence[dict[str, Any]]) -> None:
        """Put rows into the table of a collection, after that."""
        table = self._tables.get(name)
        if table is None:
            return
        if (len(table) + len(ids)) * self._shapes[name].dimensions * 4 > _LARGEST:
            self._take_away(name)
            return
        try:
            table.upsert(ids, vectors, metadatas)
        except OSError:
            self._take_away(name)

    def delete(self, name: str, ids: Collection[str]) -> None:
        """Take rows out of the table of a collection."""
        table = self._tables.get(name)
        if table is not None:
            try:
                table.delete(ids)
            except OSError:
                self._take_away(name)

    def search(self, name: str, k: int, where: Where, vector: Any) -> list[Row] | None:
        """The `k` nearest rows that meet the conditions, nearest first; None where no table can tell."""
        table = self._tables.get(name)
        if table is None or not table.answers(where):
            return None
        try:
            return table.search(k, where, vector)
        except BrokenTableError:
            self._take_away(name)
            return None

    def counts(self) -> dict[str, int]:
        """How many rows the table of each collection has, where there is one."""
        return {name: len(table) for name, table in self._tables.items()}

    def ids(self, name: str, among: Collection[str] | None) -> set[str] | None:
        """All ids of a collection, or those of `among` that it has; None where no table can tell."""
        table = self._tables.get(name)
        try:
            return None if table is None else table.ids() if among is None else table.present(among)
        except BrokenTableError:
            self._take_away(name)
            return None

    def close(self) -> None:
        """Let go of all files. Closing twice is harmless."""
        for table in self._opened:
            table.close()
        self._opened, self._tables = [], {}

    def remove(self) -> None:
        """Let go of all files, and take them away."""
        for name in self._shapes:
            self._take_away(name)
        self.close()

    def _take_away(self, name: str) -> None:
        # Another thread may be reading in it, so that it is closed last.
        self._tables.pop(name, None)
        for file in files_of(self._folder / self._shapes[name].stored_name):
            _unlink(file)


def _unlink(file: Path) -> None:
    # What is left lies there for nothing, or is no table.
    with suppress(OSError):
        file.unlink()
