"""What is taken out of a folder of vectors before Chroma opens it: collections that are not trusted, and their files.

Chroma forgets a collection that is deleted, and reads nothing of its index for that, but leaves the files of the index.
"""

import shutil
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from uuid import UUID

from sqlalchemy import column, create_engine, select, table
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from memory.chroma_client import BrokenStoreError, open_folder
from memory.table_files import files_of

_DATABASE = "chroma.sqlite3"


def drop_collections(folder: Path, names: Collection[str]) -> None:
    """Delete these collections where they are there. Raises BrokenStoreError, InputError."""
    from chromadb.errors import ChromaError

    try:
        with closing(open_folder(folder)) as client:
            for name in {collection.name for collection in client.list_collections()} & set(names):
                client.delete_collection(name)
    except (ChromaError, ValueError) as error:
        raise BrokenStoreError(f"the vectors in {folder} cannot be read ({error})") from error


def remove_leftovers(folder: Path) -> None:
    """Remove the files of indexes whose collections are gone. Nobody else may have the folder open."""
    database = folder / _DATABASE
    if not database.is_file():
        return
    engine = create_engine(f"sqlite:///{database}", poolclass=NullPool)
    try:
        with engine.connect() as connection:
            known: set[str] = set(connection.scalars(select(column("id")).select_from(table("segments"))))
    except DatabaseError:
        # Chroma says what is wrong with it.
        return
    for path in folder.iterdir():
        if path.is_dir() and _is_identity(path.name) and path.name not in known:
            # What cannot be removed takes up room only.
            shutil.rmtree(path, ignore_errors=True)


def has_only_tables(folder: Path) -> bool:
    """Whether Chroma would make its database anew beside the tables of an older one."""
    database = folder / _DATABASE
    return any(folder.glob("*.rows")) and not (database.exists() and database.stat().st_size)


def remove_index(folder: Path) -> None:
    """Remove all but the tables. Raises OSError."""
    tables = {file.name for rows in folder.glob("*.rows") for file in files_of(rows.with_suffix(""))}
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in tables:
            path.unlink()


def _is_identity(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
