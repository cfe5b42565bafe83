"""Files that are packed with gzip, xz or zstandard, read as streams that end where no honest file goes on.

A few kilobytes can be made to unpack to terabytes. Text packs to a third or a tenth; what unpacks to a hundred times
its size, and to more than a quarter of a gibibyte, is refused.
"""

import gzip
import io
import lzma
from pathlib import Path
from typing import IO, cast

MOST_TIMES = 100
LEAST_BYTES = 256 * 2**20
"""What any packed file may unpack to, however small it is."""
_PART = 2**20


def open_packed(path: Path) -> IO[bytes]:
    """The content of a file, unpacked where its ending is .gz, .xz or .zst.

    Reading raises OSError where more comes than a file of this size can have, and what the packers themselves raise.
    """
    ending = path.suffix.lower()
    if ending == ".gz":
        stream = cast(IO[bytes], gzip.GzipFile(path, "rb"))
    elif ending == ".xz":
        stream = cast(IO[bytes], lzma.LZMAFile(path, "rb"))  # noqa: SIM115 - the caller closes it
    elif ending == ".zst":
        import zstandard

        stream = cast(IO[bytes], zstandard.open(path, "rb"))
    else:
        return path.open("rb")
    most = max(LEAST_BYTES, MOST_TIMES * path.stat().st_size)
    return cast(IO[bytes], io.BufferedReader(_Bounded(stream, most), _PART))


class _Bounded(io.RawIOBase):
    """A stream of which at most so many bytes can be read."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self._stream, self._most, self._read = stream, most, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        part = self._stream.read(len(buffer))
        self._read += len(part)
        if self._read > self._most:
            raise OSError(f"it unpacks to more than {self._most / 2**20:,.0f} MiB")
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self._stream.close()
        super().close()
