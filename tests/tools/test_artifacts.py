"""Folders at an address, on a folder and on a real FTP server: whole or not there; one sentence for each trouble."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ftp_server import PASSWORD, running_ftp
from tools.artifacts import LIST_SUFFIX, Artifacts
from tools.errors import InputError

NAME = "evaluations/abc/model"


@pytest.fixture(params=["file", "ftp"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An address, and the folder behind it."""
    if request.param == "file":
        yield f"file://{tmp_path / 'served' / 'kept'}", tmp_path / "served" / "kept"
        return
    with running_ftp(tmp_path / "served") as (url, _):
        yield url, tmp_path / "served" / "kept"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with files of several sizes, one in a folder of its own."""
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 2000)
    (folder / "inner" / "config.json").write_text("{}")
    (folder / "empty").write_bytes(b"")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_goes_there_and_comes_back(address: tuple[str, Path], model: Path, tmp_path: Path) -> None:
    artifacts = Artifacts.open(address[0])
    assert not artifacts.has(NAME) and not artifacts.fetch(NAME, tmp_path / "other") and artifacts.names("x") == set()
    artifacts.keep(model, NAME)
    elsewhere = Artifacts.open(address[0])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "old").write_text("gives way")
    assert elsewhere.has(NAME) and elsewhere.fetch(NAME, tmp_path / "other")
    assert contents(tmp_path / "other") == contents(model) and elsewhere.names("evaluations") == {"abc"}
    (model / "empty").write_bytes(b"no more")
    artifacts.keep(model, NAME)
    assert elsewhere.fetch(NAME, tmp_path / "other") and (tmp_path / "other" / "empty").read_bytes() == b""
    artifacts.keep(model, NAME, renew=True)
    assert elsewhere.fetch(NAME, tmp_path / "other") and contents(tmp_path / "other") == contents(model)
    assert len([path for path in address[1].rglob("empty") if path.is_file()]) == 1, "the old one has gone"
    elsewhere.remove(NAME)
    elsewhere.remove(NAME)
    assert not artifacts.has(NAME) and not artifacts.fetch(NAME, tmp_path / "none")
    assert not list(address[1].rglob("model*")) and not (tmp_path / "none").exists()
    assert artifacts.read("runs/r/survey.json") is None
    artifacts.write("runs/r/survey.json", "é")
    assert elsewhere.read("runs/r/survey.json") == "é"


def test_a_half_is_never_taken_for_the_whole(address: tuple[str, Path], model: Path, tmp_path: Path) -> None:
    artifacts = Artifacts.open(address[0])
    artifacts.keep(model, NAME)
    (listing,) = address[1].rglob(f"*{LIST_SUFFIX}")
    (weights,) = address[1].rglob("*.safetensors")
    whole, there = listing.read_bytes(), tmp_path / "there"
    # Stopped before the list was written, and in the middle of writing it.
    listing.unlink()
    assert not artifacts.has(NAME) and not artifacts.fetch(NAME, there)
    listing.write_bytes(whole[: len(whole) // 2])
    assert not artifacts.has(NAME) and not artifacts.fetch(NAME, there)
    # The list of something that is cut short, changed, or gone.
    listing.write_bytes(whole)
    bytes_ = weights.read_bytes()
    for spoilt in (bytes_[:-1], bytes_[:-1] + b"\x00"):
        weights.write_bytes(spoilt)
        assert not artifacts.fetch(NAME, there) and not there.exists()
    weights.unlink()
    assert not artifacts.fetch(NAME, there) and not there.exists()
    # Files that would lie elsewhere.
    listing.write_bytes(whole.replace(b"inner/config.json", b"../../config.json"))
    assert not artifacts.fetch(NAME, there) and not (tmp_path / "config.json").exists()
    listing.unlink()
    artifacts.keep(model, NAME)
    assert artifacts.fetch(NAME, there) and contents(there) == contents(model)


def test_a_server_that_goes_away_is_one_sentence(tmp_path: Path, model: Path) -> None:
    with running_ftp(tmp_path / "served") as (url, process):
        artifacts = Artifacts.open(url)
        process.kill()
        process.wait()
        for work in (lambda: artifacts.keep(model, NAME), lambda: artifacts.remove(NAME), lambda: Artifacts.open(url)):
            with pytest.raises(InputError, match=r"ftp://me@127.0.0.1:\d+/kept cannot be used \(") as caught:
                work()
            assert "\n" not in str(caught.value) and PASSWORD not in str(caught.value)
    with running_ftp(tmp_path / "served") as (url, _), pytest.raises(InputError, match="530") as caught:
        Artifacts.open(url.replace(PASSWORD, "wrong-words"))
    assert "wrong-words" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense://x", "Protocol not known: nonsense"),
        ("smb://me:canary@host/x", "smb://me@host/x .*smbprotocol"),
        ("/proc/none/here", "cannot be used"),
    ],
)
def test_addresses_that_cannot_be_used(url: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Artifacts.open(url)
    assert "\n" not in str(caught.value) and "canary" not in str(caught.value)


def test_a_full_place_is_one_sentence(tmp_path: Path, model: Path) -> None:
    """/dev/full takes no byte, as a full disk does."""
    artifacts = Artifacts.open(str(tmp_path / "kept"))
    (tmp_path / "kept" / f"runs{LIST_SUFFIX}").symlink_to("/dev/full")
    with pytest.raises(InputError, match="have no more room") as caught:
        artifacts.write(f"runs{LIST_SUFFIX}", "{}")
    assert isinstance(caught.value.__cause__, OSError) and caught.value.__cause__.errno == errno.ENOSPC
