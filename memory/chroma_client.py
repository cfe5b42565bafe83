"""How Chroma is reached: in this process on a folder, or a server by its URL. Telemetry is off in both."""

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tools.errors import InputError

if TYPE_CHECKING:
    from chromadb.api.client import Client

SYNC_THRESHOLD = 250
"""Chroma writes its index to disk after this many changes; until then they are in its log, and openings repeat them."""


class BrokenStoreError(InputError):
    """The folder of a vector store cannot be read. It is to be wiped and rebuilt."""


def open_folder(folder: Path) -> "Client":
    """Chroma in this process.

    Raises:
        BrokenStoreError: what is there cannot be read.
        InputError: the folder cannot be made.
    """
    from chromadb.errors import ChromaError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder of the vectors {folder} cannot be made ({error.strerror}); choose another place"
        ) from error
    try:
        return _client(persist_directory=str(folder), is_persistent=True)
    except (ChromaError, ValueError) as error:
        raise BrokenStoreError(f"the vectors in {folder} cannot be read ({error})") from error


def open_server(url: str) -> "Client":
    """A Chroma server that runs already.

    Raises:
        InputError: the URL is none, or nobody answers there.
    """
    from chromadb.errors import ChromaError
    from httpx import HTTPError

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"vectors {url!r} is no address of a Chroma server; give one like http://localhost:8000")
    secure = parts.scheme == "https"
    try:
        return _client(
            chroma_api_impl="chromadb.api.fastapi.FastAPI",
            chroma_server_host=parts.hostname,
            chroma_server_http_port=parts.port or (443 if secure else 8000),
            chroma_server_ssl_enabled=secure,
        )
    except (ChromaError, HTTPError, ValueError, OSError) as error:
        raise unreachable(url, error) from error


def _client(**settings: Any) -> "Client":
    from chromadb.api import ServerAPI
    from chromadb.api.client import Client
    from chromadb.config import Settings, System
    from chromadb.telemetry.product import ProductTelemetryClient

    # `PersistentClient` and `HttpClient` keep what they start for the life of the process, also a failed start.
    system = System(Settings(anonymized_telemetry=False, **settings))
    system.instance(ProductTelemetryClient)  # type: ignore[type-abstract]
    system.instance(ServerAPI)  # type: ignore[type-abstract]
    system.start()
    return Client.from_system(system)


def unreachable(url: str, error: Exception) -> InputError:
    """The sentence for a server that does not answer."""
    return InputError(
        f"the vector store {url} cannot be reached ({str(error).strip() or type(error).__name__}); "
        "start it with `chroma run --path DIR`, or leave the setting vectors out"
    )
