"""Reads documents: from text, JSON-lines and Parquet files (also compressed), from the hub, from Python's own docs."""

import io
import json
import lzma
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import zstandard

from tools.errors import InputError
from tools.packed_files import open_packed
from tools.settings import DataSettings

PYTHON_DOCS = "python-docs"

Side = Literal["train", "validation", "test"]

_SIDES: dict[str, Side] = {
    "train": "train",
    "training": "train",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
_TEXT = (".txt", ".text", ".raw", ".tokens")
_ROWS = (".jsonl", ".ndjson")
_PACKED = (".gz", ".xz", ".zst")
_LONGEST = 4_000
_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n){2,}")


@dataclass(frozen=True)
class Document:
    """A text, where its row says so its side, and whether the text ends here or was cut for its length."""

    text: str
    side: Side | None = None
    complete: bool = True


def corpus_files(corpus: str) -> list[Path] | None:
    """The files of a local corpus in a fixed order, or None where `corpus` is no local path.

    Raises InputError for files of unknown kind and for directories without any of known kind.
    """
    path = Path(corpus).expanduser()
    if not path.exists() and _kind(path) is not None:
        raise InputError(f"There is no corpus file {path}; check the path.")
    if path.is_file():
        if _kind(path) is None:
            raise InputError(
                f"{path} is of unknown kind; a corpus is .txt, .jsonl or .parquet, also as .gz, .xz or .zst."
            )
        return [path]
    if not path.is_dir():
        return None
    files = sorted(file for file in path.rglob("*") if file.is_file() and _kind(file) and not file.name.startswith("."))
    if not files:
        raise InputError(f"{path} holds no corpus: no .txt, .jsonl or .parquet file, also as .gz, .xz or .zst.")
    return files


def python_docs() -> Iterator[Document]:
    """The topics of CPython's own documentation, as `help()` shows them."""
    from pydoc_data.topics import topics

    for _, text in sorted(topics.items()):
        yield Document(text)


def file_documents(files: list[Path], settings: DataSettings) -> Iterator[Document]:
    """The documents of local files. A text file is one document, but a single one is split.

    A single text file is split at runs of two or more blank lines; pieces above 4,000 characters are split again, at
    line ends, so that it has documents for both training and validation. Rows may name their side in a field `split`.
    """
    for file in files:
        try:
            yield from _documents(file, settings, alone=len(files) == 1)
        except (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, UnicodeDecodeError) as error:
            raise InputError(f"{file} cannot be read: {error}; check the file or fetch it again.") from error


def hub_documents(
    name: str, configuration: str | None, revision: str | None, settings: DataSettings
) -> Iterator[Document]:
    """The documents of one split of a hub data set, streamed. Raises InputError where it cannot be had."""
    import datasets  # type: ignore[import-untyped]
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined] # the HTTP client's own

    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(name, configuration, split=settings.split, revision=revision, streaming=True)
        for row in rows:
            yield Document(_text(row, settings.text_field, f"the data set {name}"))
    except (OSError, ValueError, HTTPError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The hub data set {name} cannot be read (split {settings.split!r}): {error}.") from error


def passages(document: Document) -> Iterator[Document]:
    """The document in pieces of at most 4,000 characters, cut at line ends or spaces where there are any."""
    start, text = 0, document.text
    while len(text) - start > _LONGEST:
        end = start + _LONGEST
        for separator in ("\n", " "):
            found = text.rfind(separator, start + _LONGEST // 2, end)
            if found > 0:
                end = found + 1
                break
        yield Document(text[start:end], document.side, complete=False)
        start = end
    yield Document(text[start:], document.side, document.complete)


def _documents(file: Path, settings: DataSettings, alone: bool) -> Iterator[Document]:
    kind = _kind(file)
    if kind == ".parquet":
        yield from _parquet(file, settings)
        return
    with open_packed(file) as stream:
        # Bytes are decoded here, not by the decompressors, as they differ in how they take a byte order mark.
        text = io.TextIOWrapper(stream, encoding="utf-8-sig")
        if kind in _ROWS:
            yield from _json_lines(file, text, settings)
        elif alone:
            for piece in _BLANK_LINES.split(text.read()):
                yield from passages(Document(piece))
        else:
            yield Document(text.read())


def _json_lines(file: Path, lines: IO[str], settings: DataSettings) -> Iterator[Document]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{file}, line {number}, is no valid JSON; correct or remove the line.") from error
        if not isinstance(row, dict):
            raise InputError(
                f"{file}, line {number}, is no JSON object; write one object with a text field on each line."
            )
        yield Document(_text(row, settings.text_field, f"{file}, line {number},"), _side(row.get("split")))


def _parquet(file: Path, settings: DataSettings) -> Iterator[Document]:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    with open_packed(file) as stream:
        # Parquet is read from its end, which a decompressing stream cannot seek to cheaply.
        source = io.BytesIO(stream.read()) if file.suffix.lower() in _PACKED else stream
        try:
            table = parquet.ParquetFile(source)
            names = table.schema_arrow.names
            columns = [name for name in (settings.text_field, "split") if name in names]
            if settings.text_field not in names:
                _text(dict.fromkeys(names), settings.text_field, str(file))
            for batch in table.iter_batches(batch_size=1024, columns=columns):
                for row in batch.to_pylist():
                    if row[settings.text_field] is not None:
                        yield Document(_text(row, settings.text_field, str(file)), _side(row.get("split")))
        except pyarrow.ArrowException as error:
            raise InputError(f"{file} cannot be read as Parquet: {error}; fetch it again.") from error


def _text(row: dict[str, Any], field: str, where: str) -> str:
    if field not in row:
        known = ", ".join(str(name) for name in row) or "none"
        raise InputError(f"{where} has no field {field!r}; set text_field to one of its fields: {known}.")
    if not isinstance(row[field], str):
        raise InputError(f"{where} holds no text in {field!r} but {type(row[field]).__name__}; set text_field.")
    text: str = row[field]
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half a surrogate pair, which JSON can spell and no tokenizer can read.
        text = text.encode("utf-8", "replace").decode()
    return text


def _side(value: object) -> Side | None:
    return _SIDES.get(value.lower()) if isinstance(value, str) else None


def _kind(path: Path) -> str | None:
    """The ending that says what is in the file, without that of a compression."""
    name = Path(path.stem) if path.suffix.lower() in _PACKED else path
    ending = name.suffix.lower()
    return ending if ending in (*_TEXT, *_ROWS, ".parquet") else None
