"""Where the records of a home are: a SQLite file in it, or a database elsewhere whose address it keeps."""

import os
from dataclasses import dataclass
from pathlib import Path

from tools.addresses import without_password
from tools.errors import InputError

FILE = "records.sqlite"
POINTER = "records.url"


@dataclass(frozen=True)
class RecordsPlace:
    """The records of the home in `folder`.

    PENJING_RECORDS says their address first, then the file `records.url` in the home, which `keep` writes. A password
    is never written down: what reads it is PENJING_RECORDS, or PostgreSQL's own PGPASSWORD and ~/.pgpass.
    """

    folder: Path

    @property
    def url(self) -> str | None:
        """The address of the database; None where the records are a file in the home."""
        pointer = self.folder / POINTER
        if url := os.environ.get("PENJING_RECORDS"):
            return url
        return pointer.read_text().strip() if pointer.is_file() else None

    @property
    def name(self) -> str:
        """The name of the file."""
        return FILE

    def is_file(self) -> bool:
        """Whether there are records: a database elsewhere is taken to have some."""
        return self.url is not None or (self.folder / FILE).is_file()

    def keep(self, url: str | None) -> None:
        """Let the home have its records at `url` from now on; None leaves them where they are.

        Raises:
            InputError: it has records already, in another place.
        """
        if url is None:
            return
        shown = _without_password(url)
        pointer = self.folder / POINTER
        before = pointer.read_text().strip() if pointer.is_file() else None
        if before is None and (self.folder / FILE).is_file():
            before = str(self.folder / FILE)
        if before not in (None, shown):
            raise InputError(
                f"the records of {self.folder} are in {before}, not in {shown}; choose another home, "
                "or move them with `penjing memory export` and `penjing memory import`"
            )
        beside = pointer.with_suffix(".partial")
        beside.write_text(shown + "\n")
        beside.replace(pointer)

    def __str__(self) -> str:
        return self.url or str(self.folder / FILE)


def _without_password(url: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        make_url(url)
    except (ArgumentError, ValueError) as error:
        raise InputError(
            f"records {without_password(url)!r} is no database URL; give one like postgresql://USER@HOST/NAME"
        ) from error
    return without_password(url)
