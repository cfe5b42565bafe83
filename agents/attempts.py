"""HTTP clients that note every attempt that fails; when to try again is decided by the openai client above them.

That client repeats what was answered with 408, 409, 429 or 5xx, timed out, or was cut, `max_retries` times. It waits as
long as Retry-After says, up to two minutes, else 0.5 s, doubled each time up to 8 s, less a random quarter.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl import SSLContext

    from httpx2 import AsyncClient, Client, Request, Response

MOST_BYTES = 16 * 2**20
"""Of one answer: a server that goes on for ever costs no more memory than this."""
_ENDLESS = "the answer does not end"
_OF_THE_TRANSPORT = ("content-encoding", "content-length", "transfer-encoding")


def counting_client(failed: list[str], *, trust_env: bool) -> "Client":
    """A client that adds to `failed` what went wrong with each attempt: `HTTP 429`, `timeout`, `cut connection`.

    Args:
        trust_env: whether proxies of the environment are used.
    """
    from httpx2 import TransportError
    from openai import DefaultHttpxClient

    class Counting(DefaultHttpxClient):
        def send(self, request: "Request", **options: Any) -> "Response":
            try:
                with contextlib.closing(super().send(request, **{**options, "stream": True})) as streamed:
                    response = _whole(streamed, _bounded(request, streamed.iter_bytes()))
            except TransportError as error:
                failed.append(_kind(error))
                raise
            if response.is_error:
                failed.append(f"HTTP {response.status_code}")
            return response

    return Counting(trust_env=trust_env, verify=trusted(trust_env=trust_env))


def counting_async_client(failed: list[str], *, trust_env: bool, seconds: float) -> "AsyncClient":
    """As `counting_client`, for an event loop.

    Args:
        seconds: the longest attempt; the library's own timeout begins anew with every byte that comes.
    """
    from httpx2 import ReadTimeout, TransportError
    from openai import DefaultAsyncHttpxClient

    class Counting(DefaultAsyncHttpxClient):
        async def send(self, request: "Request", **options: Any) -> "Response":
            try:
                async with asyncio.timeout(seconds):
                    streamed = await super().send(request, **{**options, "stream": True})
                    async with contextlib.aclosing(streamed):
                        response = _whole(streamed, await _bounded_async(request, streamed.aiter_bytes()))
            except TimeoutError as error:
                failed.append("timeout")
                raise ReadTimeout("the answer took too long", request=request) from error
            except TransportError as error:
                failed.append(_kind(error))
                raise
            if response.is_error:
                failed.append(f"HTTP {response.status_code}")
            return response

    return Counting(trust_env=trust_env, verify=trusted(trust_env=trust_env))


def trusted(*, trust_env: bool) -> "SSLContext":
    """The certificates that a client of httpx2 trusts by itself, read once: it takes longer than the rest of a client.

    Args:
        trust_env: whether SSL_CERT_FILE and SSL_CERT_DIR are heeded.
    """
    places = (os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")) if trust_env else (None, None)
    return _certificates(trust_env, *places)


@cache
def _certificates(trust_env: bool, _file: str | None, _folder: str | None) -> "SSLContext":
    from httpx2 import create_ssl_context

    return create_ssl_context(trust_env=trust_env)


def _bounded(request: "Request", parts: Iterable[bytes]) -> bytes:
    content = bytearray()
    for part in parts:
        content += part
        _require_end(request, len(content))
    return bytes(content)


async def _bounded_async(request: "Request", parts: AsyncIterable[bytes]) -> bytes:
    content = bytearray()
    async for part in parts:
        content += part
        _require_end(request, len(content))
    return bytes(content)


def _require_end(request: "Request", length: int) -> None:
    from httpx2 import ReadError

    if length > MOST_BYTES:
        raise ReadError(f"{_ENDLESS} within {MOST_BYTES / 2**20:.0f} MiB", request=request)


def _whole(streamed: "Response", content: bytes) -> "Response":
    """The response with its content, which is decoded already."""
    from httpx2 import Response

    headers = [(name, value) for name, value in streamed.headers.multi_items() if name.lower() not in _OF_THE_TRANSPORT]
    return Response(
        streamed.status_code,
        headers=headers,
        content=content,
        request=streamed.request,
        extensions=streamed.extensions,
        history=streamed.history,
    )


def _kind(error: Exception) -> str:
    from httpx2 import ConnectError, TimeoutException

    if isinstance(error, TimeoutException):
        return "timeout"
    if str(error).startswith(_ENDLESS):
        return "endless answer"
    return "no connection" if isinstance(error, ConnectError) else "cut connection"
