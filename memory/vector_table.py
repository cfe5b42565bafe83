"""A table of vectors that finds what comparing with all of them finds, and is quick up to some 100,000 rows.

It stands beside Chroma's index, which it spares reading, and has the same rows. Conditions are checked in columns of
integers: numbers as they are, texts by 63 bits of a hash, so that a billion pairs of texts are told apart with a
chance of 1 in 10^10 to be wrong.
"""

import json
import threading
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from memory.conditions import Where, checks_of, holds_in
from memory.lower_bounds import LowerBounds
from memory.table_files import LIVE, OWN, TableFiles
from memory.vector_rows import Row

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FIELDS = ("run_id", "source", "corpus", "fidelity", "architecture_hash", "parameters")
"""What conditions can ask for."""
_ID, _SQUARE, _FIRST = OWN, OWN + 1, OWN + 2
_MISSING = int(np.iinfo(np.int64).min)
_EQUALITY, _AMONG = ("$eq", "$ne"), ("$in", "$nin")
_FEW = 0.3
"""Where fewer than this share of the rows meet the conditions, these are copied out and looked at alone."""
_NEARLY = 16
"""So many more than are wanted are compared with at first."""
_ERROR = 1e-5
"""What bounds in single precision may err by, as a share of the squared lengths."""


class Rows(NamedTuple):
    """Some rows of a table: ids, vectors [rows, dimensions], metadata."""

    ids: list[str]
    vectors: "NDArray[np.float32]"
    metadatas: list[dict[str, Any]]


class VectorTable:
    """Rows of ids, vectors and metadata in the files `PATH.*`. Reading beside writing threads is safe.

    Distances are squared Euclidean ones, or 1 - cosine.
    """

    def __init__(self, path: Path, dimensions: int, euclidean: bool) -> None:
        """Open or make it. One of which most rows do not count any more is emptied. Raises OSError."""
        self._files = TableFiles(path, _FIRST + len(_FIELDS), dimensions)
        self._euclidean = euclidean
        self._writing = threading.Lock()
        self._bounds = LowerBounds(dimensions)
        self._places: dict[int, int] | None = None
        if 2 * len(self) < self._files.count:
            self._files.clear()

    def __len__(self) -> int:
        return int(np.count_nonzero(self._files.columns[LIVE]))

    def close(self) -> None:
        """Let go of the files."""
        self._files.close()

    def ids(self) -> set[str]:
        """The ids of all rows. Raises BrokenTableError."""
        notes = map(self._files.note, np.flatnonzero(self._files.columns[LIVE]).tolist())
        return {json.loads(note)[0] for note in notes if note is not None}

    def present(self, ids: Collection[str]) -> set[str]:
        """Those of some ids that it has."""
        with self._writing:
            known = self._known()
            return {id for id in ids if _digest_of(id) in known}

    def batches(self, size: int) -> Iterator[Rows]:
        """All rows, so many at a time, each compared with its checksum. Raises BrokenTableError."""
        places = np.flatnonzero(self._files.columns[LIVE])
        for start in range(0, len(places), size):
            some = places[start : start + size]
            notes = [json.loads(note) for note in map(self._files.note, some.tolist()) if note is not None]
            yield Rows([id for id, _ in notes], self._files.vectors[some], [metadata for _, metadata in notes])

    def upsert(self, ids: Sequence[str], vectors: Any, metadatas: Sequence[dict[str, Any]]) -> None:
        """Put rows in, over those of the same ids. Raises OSError."""
        last = {id: place for place, id in enumerate(ids)}
        chosen = list(last.values())
        if not chosen:
            return
        rows = np.ascontiguousarray(np.asarray(vectors, dtype=np.float32)[chosen])
        if not self._euclidean:
            lengths = np.linalg.norm(rows, axis=1, keepdims=True)
            rows /= np.where(lengths == 0, 1, lengths)
        numbers = np.zeros((len(chosen), _FIRST + len(_FIELDS)), dtype=np.int64)
        numbers[:, _ID] = [_digest_of(id) for id in last]
        numbers[:, _SQUARE] = np.einsum("ij,ij->i", rows, rows, dtype=np.float64).view(np.int64)
        numbers[:, _FIRST:] = [[_code(metadatas[place].get(name)) for name in _FIELDS] for place in chosen]
        notes = [json.dumps([id, metadatas[place]]).encode() for id, place in last.items()]
        with self._writing:
            self._strike(numbers[:, _ID].tolist())
            first, places = self._files.count, self._known()
            self._files.append(numbers, rows, notes)
            places.update(zip(numbers[:, _ID].tolist(), range(first, self._files.count), strict=True))

    def delete(self, ids: Collection[str]) -> None:
        """Take rows out. Raises OSError."""
        with self._writing:
            self._strike([_digest_of(id) for id in ids])

    def answers(self, where: Where) -> bool:
        """Whether it can tell what meets these conditions."""
        for key, symbol, operand in checks_of(where):
            if key not in _FIELDS or not _is_coded(symbol, operand):
                return False
            # Of texts there are hashes, which have no order.
            if isinstance(operand, str) and symbol not in _EQUALITY:
                return False
        return True

    def search(self, k: int, where: Where, vector: Any) -> list[Row]:
        """The `k` nearest rows that meet the conditions, nearest first. Raises BrokenTableError."""
        asked = np.asarray(vector, dtype=np.float64)
        if not self._euclidean:
            asked = asked / (np.linalg.norm(asked) or 1.0)
        with self._writing:
            # Rows that come meanwhile are not looked at.
            columns, vectors = self._files.columns, self._files.vectors
            lengths = columns[_SQUARE].view(np.float64)
            sketches = self._bounds.sketches(lengths, self._files.read)
            sketch = self._bounds.sketch(asked.astype(np.float32), asked @ asked)
        fitting = np.flatnonzero(_meeting(columns, where))
        if not len(fitting) or k < 1:
            return []
        # `vecdot` takes one thread: those of a matrix product wait for each other where other processes work.
        few = len(fitting) < _FEW * len(sketches)
        products = np.vecdot(sketches[fitting], sketch) if few else np.vecdot(sketches, sketch)[fitting]
        squares = lengths[fitting] + asked @ asked
        bounds = squares - 2 * products - _ERROR * squares
        nearest = np.argsort(bounds) if len(bounds) <= k + _NEARLY else np.argpartition(bounds, k + _NEARLY - 1)
        farthest = np.sort(_squared(vectors[fitting[nearest[: k + _NEARLY]]], asked))[:k][-1]
        fitting = fitting[bounds <= farthest]
        distances = _squared(vectors[fitting], asked)
        if not self._euclidean:
            # Of unit vectors.
            distances /= 2
        found = list[Row]()
        for at in np.argsort(distances, kind="stable")[:k].tolist():
            note = self._files.note(int(fitting[at]))
            if note is not None:
                id, metadata = json.loads(note)
                found.append(Row(id, float(distances[at]), metadata))
        return found

    def _strike(self, digests: Sequence[int]) -> None:
        known = self._known()
        self._files.strike([known.pop(digest) for digest in set(digests) & known.keys()])

    def _known(self) -> dict[int, int]:
        """The place of each row by the digest of its id, found out at the first writing."""
        if self._places is None:
            live = np.flatnonzero(self._files.columns[LIVE])
            self._places = dict(zip(self._files.columns[_ID, live].tolist(), live.tolist(), strict=True))
        return self._places


def _squared(rows: "NDArray[np.float32]", asked: "NDArray[np.float64]") -> "NDArray[np.float64]":
    differences = rows.astype(np.float64) - asked
    return np.asarray(np.vecdot(differences, differences))


def _is_coded(symbol: str, operand: Any) -> bool:
    return all(isinstance(one, str | int) for one in (operand if symbol in _AMONG else (operand,)))


def _meeting(columns: "NDArray[np.int64]", where: Where) -> "NDArray[np.bool_]":
    found: NDArray[np.bool_] = columns[LIVE] == 1
    for key, symbol, operand in checks_of(where):
        coded = [_code(one) for one in operand] if symbol in _AMONG else _code(operand)
        found &= holds_in(columns[_FIRST + _FIELDS.index(key)], symbol, coded, _MISSING)
    return found


def _code(value: Any) -> int:
    if value is None:
        return _MISSING
    return int(value) if isinstance(value, int) else _digest(value)


@lru_cache(maxsize=10_000)
def _digest(text: str) -> int:
    return _digest_of(text)


def _digest_of(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
