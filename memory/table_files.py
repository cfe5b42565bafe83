"""Three files that grow at their ends: numbers of rows, vectors of rows, and a note of each row.

A row is there once its numbers are, which are written last, so that a process that is killed leaves whole rows. What a
lost power leaves at the end is told by a checksum of each row. Files hold values as this machine has them.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LIVE, SUM, PLACE, LENGTH = range(4)
"""The first numbers of a row: whether it counts, the checksum of its vector and note, and where its note is."""
OWN = 4

_SPARE = 4096  # rows
_CHECKED = 1000  # rows at the end


class BrokenTableError(Exception):
    """What the files hold is not what was written."""


class TableFiles:
    """Rows of `numbers` integers, of which the first four are `OWN`, with a vector of `dimensions` and a note each.

    `columns` are the numbers, [numbers, rows], and `vectors` [rows, dimensions] the vectors, which are mapped, not
    read: what is appended appears in them.
    """

    def __init__(self, path: Path, numbers: int, dimensions: int) -> None:
        """Open or make the files `PATH.rows`, `PATH.vectors` and `PATH.notes`. Raises OSError."""
        self._numbers, self._dimensions = numbers, dimensions
        self._paths = files_of(path)
        self._files = [os.open(one, os.O_RDWR | os.O_CREAT, 0o644) for one in self._paths]
        rows, vectors, notes = (os.fstat(file).st_size for file in self._files)
        self.count = min(rows // (8 * numbers), vectors // (4 * dimensions))
        self._end = notes
        os.ftruncate(self._files[0], self.count * 8 * numbers)
        self._room = 0
        self._columns = np.zeros((numbers, 0), dtype=np.int64)
        read = np.fromfile(self._paths[0], dtype=np.int64, count=self.count * numbers).reshape(self.count, numbers)
        self._make_room(self.count)
        self._columns[:, : self.count] = read.T
        within = (self.columns[PLACE] >= 0) & (self.columns[LENGTH] >= 0)
        self.columns[LIVE] &= within & (self.columns[PLACE] + self.columns[LENGTH] <= notes)
        for place in range(max(0, self.count - _CHECKED), self.count):
            self.columns[LIVE, place] &= self._is_whole(place, self._note(place))

    @property
    def columns(self) -> "NDArray[np.int64]":
        """Numbers of the rows there are, [numbers, rows]."""
        return self._columns[:, : self.count]

    @property
    def vectors(self) -> "NDArray[np.float32]":
        """Vectors of the rows there are, [rows, dimensions]."""
        return self._vectors[: self.count]

    def read(self, start: int, stop: int) -> "NDArray[np.float32]":
        """The vectors from one place up to another, read: pages of a mapping that are used for once take longer."""
        row = 4 * self._dimensions
        content = os.pread(self._files[1], (stop - start) * row, start * row)
        return np.frombuffer(content, dtype=np.float32).reshape(-1, self._dimensions)

    def append(self, numbers: "NDArray[np.int64]", vectors: "NDArray[np.float32]", notes: Sequence[bytes]) -> None:
        """Add rows: numbers [rows, numbers], of which those of `OWN` are filled in, vectors [rows, dimensions].

        Raises OSError; then none of them is there.
        """
        count, lengths = len(notes), [len(note) for note in notes]
        self._make_room(self.count + count)
        numbers[:, LIVE] = 1
        numbers[:, SUM] = [crc32(note, crc32(vector)) for vector, note in zip(vectors, notes, strict=True)]
        numbers[:, LENGTH] = lengths
        numbers[:, PLACE] = self._end + np.concatenate([[0], np.cumsum(lengths[:-1], dtype=np.int64)])
        self._write(1, vectors.tobytes(), self.count * 4 * self._dimensions)
        self._write(2, b"".join(notes), self._end)
        self._write(0, numbers.tobytes(), self.count * 8 * self._numbers)
        self._columns[:, self.count : self.count + count] = numbers.T
        self._end += sum(lengths)
        self.count += count

    def strike(self, places: Sequence[int]) -> None:
        """Let these rows count no more, and blot out their notes. Raises OSError."""
        for place in places:
            self._columns[LIVE, place] = 0
            self._write(0, bytes(8), place * 8 * self._numbers)
            start, length = self._columns[[PLACE, LENGTH], place].tolist()
            self._write(2, bytes(length), start)

    def note(self, place: int) -> bytes | None:
        """The note of a row, None where it counts no more.

        Raises BrokenTableError where its vector or its note is not as it was written.
        """
        note = self._note(place)
        if not self._columns[LIVE, place]:
            return None
        if not self._is_whole(place, note):
            raise BrokenTableError(f"row {place} of {self._paths[0]} is damaged")
        return note

    def clear(self) -> None:
        """Take all rows out."""
        for file in self._files:
            os.ftruncate(file, 0)
        self.count = self._end = self._room = 0
        self._columns = self._columns[:, :0]
        self._make_room(0)

    def close(self) -> None:
        """Let go of the files. Closing twice is harmless."""
        for file in self._files:
            os.close(file)
        self._files = []

    def _note(self, place: int) -> bytes:
        start, length = self.columns[[PLACE, LENGTH], place].tolist()
        return os.pread(self._files[2], length, start) if start >= 0 and 0 <= length <= self._end else b""

    def _is_whole(self, place: int, note: bytes) -> bool:
        return crc32(note, crc32(self._vectors[place])) == int(self.columns[SUM, place])

    def _make_room(self, rows: int) -> None:
        """Map the vectors anew only now and then: what was mapped has to be found page by page again."""
        if rows <= self._room and self._room:
            return
        self._room = rows + max(_SPARE, rows // 8)
        os.ftruncate(self._files[1], self._room * 4 * self._dimensions)
        self._vectors = np.asarray(np.memmap(self._paths[1], np.float32, "r", shape=(self._room, self._dimensions)))
        columns = np.zeros((self._numbers, self._room), dtype=np.int64)
        columns[:, : self._columns.shape[1]] = self._columns[:, : self._room]
        self._columns = columns

    def _write(self, file: int, content: bytes, at: int) -> None:
        # Not through the mapping: where the disk is full, that kills the process.
        while content:
            written = os.pwrite(self._files[file], content, at)
            content, at = content[written:], at + written


def files_of(path: Path) -> list[Path]:
    """The names of the files of a table."""
    return [path.with_name(f"{path.name}.{kind}") for kind in ("rows", "vectors", "notes")]
