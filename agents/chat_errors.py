"""When the chat endpoint itself fails: one sentence that names it and says what to do, and never the key."""

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from tools.errors import InputError


class ChatModelError(InputError):
    """The chat model cannot be asked. `transient` says whether the same call may work later.

    `faults` are the attempts that failed, such as "HTTP 503".
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        self.transient = transient
        self.faults: tuple[str, ...] = ()
        super().__init__(message)


@dataclass(frozen=True)
class Endpoint:
    """What a sentence about a failure needs to know; `secret` is what it must not show."""

    provider: str
    model: str
    url: str | None = None
    secret: str = field(default="", repr=False)
    timeout_seconds: float = 0.0
    max_retries: int = 0

    def __str__(self) -> str:
        """Who answers, for people: without user, password and query of the address."""
        if self.provider == "local":
            return "The local model server"
        if self.url is None:
            return f"The provider {self.provider}"
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        address = urlunsplit((parts.scheme, f"{host}:{parts.port}" if parts.port else host, parts.path, "", ""))
        return f"The chat endpoint {address}"

    @property
    def key_variable(self) -> str:
        """What holds the key."""
        return "OPENAI_API_KEY" if self.provider == "openai" else f"the API key of {self.provider}"

    @property
    def or_address(self) -> str:
        """A further advice where the address is the user's to set."""
        return ", or correct OPENAI_BASE_URL" if self.provider == "openai" else ""


def explain(error: BaseException, endpoint: Endpoint, attempts: int | None = None) -> ChatModelError:
    """The error of a chat library in one sentence.

    Args:
        error: from openai, LangChain (`ModelError`) or Python itself, as calls of chat models raise them.
        attempts: how many there were; as many as are allowed where that is not known.
    """
    import openai
    from langchain_core import exceptions as langchain

    text = in_one_line(error, endpoint.secret)
    count = endpoint.max_retries + 1 if attempts is None else attempts
    tries = f" in {count} attempts" if count > 1 else ""
    if isinstance(error, langchain.ContextOverflowError) or "context size" in text or "context length" in text:
        what = f"says that the prompt is longer than the context of {endpoint.model} ({text})"
        return ChatModelError(f"{endpoint} {what}: shorten the prompt template or choose another chat_model.")
    # Most special class first: a timeout is a failed connection too.
    table: tuple[tuple[tuple[type[BaseException], ...], str, bool], ...] = (
        (
            (langchain.ModelAuthenticationError, openai.AuthenticationError),
            f"refuses the API key: set {endpoint.key_variable} to one that it accepts",
            False,
        ),
        (
            (langchain.ModelPermissionDeniedError, openai.PermissionDeniedError),
            f"does not let this key use {endpoint.model}: use another key or another chat_model",
            False,
        ),
        (
            (langchain.ModelNotFoundError, openai.NotFoundError),
            f"does not know the model {endpoint.model} ({text}): correct chat_model{endpoint.or_address}",
            False,
        ),
        (
            (langchain.ModelRateLimitError, openai.RateLimitError),
            f"limits the rate, or the quota is used up{tries} ({text}): wait or see your plan, then go on",
            True,
        ),
        (
            (langchain.ModelAPIError, openai.InternalServerError),
            f"failed{tries} ({text}): try again later",
            True,
        ),
        (
            (langchain.ModelTimeoutError, openai.APITimeoutError),
            f"gave no answer within {endpoint.timeout_seconds:g} s{tries}: raise timeout_seconds or see what holds "
            "the server up",
            True,
        ),
        (
            (langchain.ModelConnectionError, openai.APIConnectionError),
            f"cannot be reached{tries} ({text}): see that it runs and the network is there{endpoint.or_address}",
            True,
        ),
        ((langchain.ModelError, openai.APIStatusError), f"refuses the request ({text})", False),
    )
    for classes, words, transient in table:
        if isinstance(error, classes):
            return ChatModelError(f"{endpoint} {words}.", transient=transient)
    return ChatModelError(
        f"{endpoint} does not answer as a chat endpoint does ({type(error).__name__}: {text}): see what is served "
        f"there{endpoint.or_address}.",
        transient=True,
    )


def in_one_line(error: BaseException, secret: str = "") -> str:
    """What a library or a server said, in one short line without the key."""
    cause = error
    if str(error) in ("Connection error.", ""):
        while cause.__cause__ is not None:
            cause = cause.__cause__
    line = " ".join(str(cause).split())
    if secret:
        line = line.replace(secret, "***")
    # Servers like to repeat a wrong key, whole or shortened.
    line = re.sub(r"\b(sk-|Bearer )\S+", "***", line)
    return line[:200].rstrip(". ") or type(error).__name__
