"""HTTP clients that note every attempt that fails; when to try again is decided by the openai client above them.

That client repeats what was answered with 408, 409, 429 or 5xx, timed out, or was cut, `max_retries` times. It waits as
long as Retry-After says, up to two minutes, else 0.5 s, doubled each time up to 8 s, less a random quarter.
"""

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from httpx2 import AsyncClient, Client, Request, Response


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
                response = super().send(request, **options)
            except TransportError as error:
                failed.append(_kind(error))
                raise
            if response.is_error:
                failed.append(f"HTTP {response.status_code}")
            return response

    return Counting(trust_env=trust_env)


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
                    response = await super().send(request, **options)
            except TimeoutError as error:
                failed.append("timeout")
                raise ReadTimeout("the answer took too long", request=request) from error
            except TransportError as error:
                failed.append(_kind(error))
                raise
            if response.is_error:
                failed.append(f"HTTP {response.status_code}")
            return response

    return Counting(trust_env=trust_env)


def _kind(error: Exception) -> str:
    from httpx2 import ConnectError, TimeoutException

    if isinstance(error, TimeoutException):
        return "timeout"
    return "no connection" if isinstance(error, ConnectError) else "cut connection"
