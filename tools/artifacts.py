"""Folders of files at an address of fsspec (s3://, gs://, ftp://, file://, ...), whole or not there.

A folder's files go to a place that is named by what they contain, and last of all a list of them with their digests. A
folder is there once its list is, and what is fetched has to agree with it: a half of a folder is none.
"""

import ftplib
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, Field, ValidationError

from tools.addresses import without_password
from tools.errors import InputError
from tools.failures import is_full_disk
from tools.staging import staged_directory

LIST_SUFFIX = ".files.json"
_PROBE = ".penjing"


class _File(BaseModel):
    bytes: int
    sha256: str


class _Listing(BaseModel):
    """What makes a folder whole: its files, and the place under its name where they are."""

    version: str = Field(pattern="^[0-9a-f]+$")
    files: dict[str, _File]


class _NotThereError(Exception):
    """What was asked for is not at the place."""


class Artifacts:
    """Open with `Artifacts.open`, for one piece of work: a connection may not outlive hours without any.

    Every method raises InputError, one sentence, where the place cannot be used.
    """

    def __init__(self, url: str, system: Any, root: str) -> None:
        self._url, self._system, self._root = url, system, root.rstrip("/")

    @classmethod
    def open(cls, url: str) -> Self:
        """The place at `url`, which is made where it is not there.

        Raises InputError where fsspec does not know the address or its package is missing, and where nothing can be
        written there.
        """
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]

        try:
            # Listings are asked for anew, since another machine may have written meanwhile.
            system, root = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
        except (ImportError, ValueError) as error:
            raise InputError(
                f"Artifacts cannot be kept at {without_password(url)} ({_reason(url, error)}): install the package of "
                "that protocol, or set another place."
            ) from error
        except Exception as error:
            raise _unusable(url, error) from error
        opened = cls(url, system, root)
        opened.write(_PROBE, "")
        return opened

    def has(self, name: str) -> bool:
        """Whether the folder `name` is there, whole."""
        return self._listing(name) is not None

    def version(self, name: str) -> str | None:
        """What `version_of` gives for the folder `name`; None where it is not there."""
        listing = self._listing(name)
        return None if listing is None else listing.version

    def keep(self, folder: Path, name: str, renew: bool = False) -> None:
        """Copy `folder` with all that is in it to `name`, unless that is there; others see all of it or nothing.

        With `renew` what is there gives way to it.
        """
        before = self._listing(name)
        if before is not None and not renew:
            return
        listing = _listing_of(folder)
        for file in listing.files:
            there = self._path(name, listing.version, file)
            with self._writing():
                self._system.makedirs(there.rpartition("/")[0], exist_ok=True)
                self._system.put_file(str(folder / file), there)
        self.write(name + LIST_SUFFIX, listing.model_dump_json(indent=1))
        if before is not None and before.version != listing.version:
            self._take_away(self._path(name, before.version))

    def fetch(self, name: str, folder: Path) -> bool:
        """Have the folder `name` as `folder` here, in place of what is there; False where there is no whole one."""
        listing = self._listing(name)
        if listing is None:
            return False
        try:
            with staged_directory(folder, overwrite=True) as staged:
                for file, known in listing.files.items():
                    self._fetch_file(self._path(name, listing.version, file), staged, file, known)
        except _NotThereError:
            return False
        return True

    def remove(self, name: str) -> None:
        """Take the folder `name` away, if it is there; its list goes first."""
        with suppress(_NotThereError), self._reading():
            self._system.rm_file(self._path(name + LIST_SUFFIX))
        self._take_away(self._path(name))

    def names(self, name: str) -> set[str]:
        """What there is in a folder of folders."""
        try:
            with self._reading():
                return {path.rstrip("/").rpartition("/")[2] for path in self._system.ls(self._path(name), detail=False)}
        except _NotThereError:
            return set()

    def write(self, name: str, text: str) -> None:
        """Write one small file."""
        there = self._path(name)
        with self._writing():
            self._system.makedirs(there.rpartition("/")[0], exist_ok=True)
            self._system.pipe_file(there, text.encode())

    def read(self, name: str) -> str | None:
        """A small file; None where there is none."""
        try:
            with self._reading():
                return bytes(self._system.cat_file(self._path(name))).decode()
        except _NotThereError:
            return None

    def _listing(self, name: str) -> _Listing | None:
        text = self.read(name + LIST_SUFFIX)
        try:
            return None if text is None else _Listing.model_validate_json(text)
        except ValidationError:
            # Half written.
            return None

    def _fetch_file(self, there: str, folder: Path, name: str, known: _File) -> None:
        here = folder / name
        # What somebody else wrote must not lead out of the folder.
        if not here.resolve().is_relative_to(folder.resolve()):
            raise _NotThereError
        here.parent.mkdir(parents=True, exist_ok=True)
        with self._reading():
            self._system.get_file(there, str(here))
        if here.stat().st_size != known.bytes or _digest(here) != known.sha256:
            raise _NotThereError

    def _take_away(self, path: str) -> None:
        with suppress(_NotThereError), self._reading():
            self._system.rm(path, recursive=True)

    def _path(self, *parts: str) -> str:
        return "/".join([self._root, *parts])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """The errors of any file system as one sentence."""
        try:
            yield
        except Exception as error:
            raise _unusable(self._url, error) from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """The same; what is not there as _NotThereError, and a full disk here as what it is."""
        try:
            yield
        except FileNotFoundError as error:
            raise _NotThereError from error
        except Exception as error:
            if isinstance(error, ftplib.error_perm) and str(error).startswith("550"):
                raise _NotThereError from error
            if is_full_disk(error):
                raise
            raise _unusable(self._url, error) from error


def version_of(folder: Path) -> str:
    """The same for folders of the same files, and another one for any others."""
    return _listing_of(folder).version


def _listing_of(folder: Path) -> _Listing:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = {
        path.relative_to(folder).as_posix(): _File(bytes=path.stat().st_size, sha256=_digest(path)) for path in paths
    }
    version = hashlib.sha256(repr(sorted((name, file.sha256) for name, file in files.items())).encode())
    return _Listing(version=version.hexdigest()[:16], files=files)


def _unusable(url: str, error: Exception) -> InputError:
    place = without_password(url)
    if is_full_disk(error):
        return InputError(f"The artifacts at {place} have no more room: make some, or set another place, and resume.")
    return InputError(
        f"The artifacts at {place} cannot be used ({_reason(url, error)}): see that the place can be reached and "
        "written, and resume."
    )


def _reason(url: str, error: Exception) -> str:
    """The file system's own words in one line, without the password of the address."""
    words = " ".join(str(error).split()) or type(error).__name__
    password = urlsplit(url).password
    for secret in (password, unquote(password)) if password else ():
        words = words.replace(secret, "***")
    return words


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
