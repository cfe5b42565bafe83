"""Packed files are read as they are, and one that unpacks without end is refused."""

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tools import packed_files
from tools.errors import InputError
from tools.packed_files import open_packed
from tools.pretraining.documents import file_documents
from tools.settings import DataSettings
from tools.spaces.nasbench201_table import NASBench201Table

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}
TEXT = "".join(f"line {number} of a text\n" for number in range(5000)).encode()


@pytest.mark.parametrize("ending", PACKERS)
def test_an_honest_file_is_read_to_its_end(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"text.txt{ending}"
    path.write_bytes(PACKERS[ending](TEXT))
    with open_packed(path) as file:
        assert file.read(7) == TEXT[:7] and file.read() == TEXT[7:]
    with open_packed(path) as file:
        assert list(file) == TEXT.splitlines(keepends=True)
    assert file.closed


def test_a_plain_file_is_just_opened(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(TEXT)
    with open_packed(tmp_path / "text.txt") as file:
        assert file.read() == TEXT


@pytest.mark.parametrize("ending", PACKERS)
def test_a_file_that_unpacks_to_far_too_much_is_refused(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_files, "LEAST_BYTES", 2**20)
    path = tmp_path / f"bomb.txt{ending}"
    path.write_bytes(PACKERS[ending](bytes(2**26)))
    assert path.stat().st_size < 2**17
    with open_packed(path) as file, pytest.raises(OSError, match="unpacks to more than"):
        file.read()
    with pytest.raises(InputError, match=r"cannot be read: it unpacks to more than [\d,]+ MiB"):
        list(file_documents([path], DataSettings()))


def test_a_table_is_no_bomb_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_files, "LEAST_BYTES", 2**20)
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(bytes(2**26)))
    with pytest.raises(InputError, match="unpacks to more than"):
        NASBench201Table.read(path)
