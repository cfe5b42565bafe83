"""Chat models behind one door: the embedded one, OpenAI-compatible endpoints, and LangChain's other providers.

All are asked for an answer in the shape of a pydantic model. What comes back is recorded as an `Answer`, good or bad;
only a failing endpoint raises. LangChain is imported at the first call, since that takes seconds.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel

from agents.attempts import counting_async_client, counting_client
from agents.chat_answers import Answer
from agents.chat_errors import ChatModelError, Endpoint, explain, in_one_line
from agents.chat_messages import answer_of_completion, answer_of_message, as_messages, calls_of_message
from agents.json_schema import strict_json_schema
from agents.local_server import LocalServer
from agents.openai_endpoint import (
    calling_model,
    check_endpoint,
    endpoint_from_environment,
    is_loopback,
    structured_model,
)
from agents.settings import LOCAL, ChatSettings
from agents.tool_use import ToolCalls, ToolQuestion
from tools.embedded import EMBEDDED_NAME, embedded_model_file

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.runnables import RunnableConfig

Message = tuple[str, str]
"""Role ("system", "user" or "assistant"; see `agents.tool_use` for two more) and text."""
Metadata = dict[str, Any] | None
"""What tracers are told of a call, such as the prompt's hash."""

_TRACING_VARIABLES = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2")


class ChatModel:
    """A chat model that can be asked; made by `open_chat_model`, closed by `close` or a `with` block.

    `ask` may be called from several threads; `aask` from any event loop, also from several one after the other.
    """

    def __init__(self, settings: ChatSettings, endpoint: Endpoint, server: LocalServer | None = None) -> None:
        self.settings = settings
        self._endpoint = endpoint
        self._server = server

    @property
    def name(self) -> str:
        """The model's name, without provider."""
        return self._endpoint.model

    def ask(
        self,
        messages: Sequence[Message],
        schema: type[BaseModel],
        *,
        seed: int | None = None,
        metadata: Metadata = None,
    ) -> Answer:
        """Asks once and waits for the answer.

        Args:
            messages: what stays the same between calls should come first, so that servers need not read it again.
            schema: what the answer must be; all its fields are asked for.
            seed: instead of the settings'; the same seed and messages tend to give the same answer again.
            metadata: for tracers.

        Raises:
            ChatModelError: the endpoint failed; a bad answer never raises.
        """
        if not self._speaks_openai:
            return self._ask_provider(self._seeded(seed), messages, schema, metadata)
        url, key = self._address()
        failed: list[str] = []
        with counting_client(failed, trust_env=not is_loopback(url)) as client:
            model = structured_model(self._seeded(seed), self.name, schema, url, key, http_client=client)
            started = time.monotonic()
            try:
                message = model.invoke(as_messages(messages), _config(metadata))
            except _errors_of_calls() as error:
                return self._recovered(error, schema, started, failed)
            return answer_of_message(message, schema, self.name, started, failed)

    async def aask(
        self,
        messages: Sequence[Message],
        schema: type[BaseModel],
        *,
        seed: int | None = None,
        metadata: Metadata = None,
    ) -> Answer:
        """As `ask`, without blocking the event loop."""
        return await self._aask(messages, schema, None, self._seeded(seed), metadata)

    async def acall(self, question: ToolQuestion, *, seed: int | None = None, metadata: Metadata = None) -> Answer:
        """Asks once for tool calls: a `ToolCalls` was answered where there are any, else text of no schema.

        Otherwise as `aask`.
        """
        return await self._aask(question.messages, ToolCalls, question, self._seeded(seed), metadata)

    async def _aask(
        self,
        messages: Sequence[Message],
        schema: type[BaseModel],
        tools: ToolQuestion | None,
        settings: ChatSettings,
        metadata: Metadata,
    ) -> Answer:
        if not self._speaks_openai:
            # Their clients may be bound to the first event loop that used them; a thread is bound to none.
            return await asyncio.to_thread(self._ask_provider, settings, messages, schema, metadata, tools)
        failed: list[str] = []
        try:
            return await self._ask_endpoint(settings, messages, schema, metadata, failed, tools)
        except ChatModelError:
            if self._server is None or self._server.running:
                raise
            # It was killed in the middle, for want of memory perhaps: asking again starts it again.
            return await self._ask_endpoint(settings, messages, schema, metadata, failed, tools)

    async def _ask_endpoint(
        self,
        settings: ChatSettings,
        messages: Sequence[Message],
        schema: type[BaseModel],
        metadata: Metadata,
        failed: list[str],
        tools: ToolQuestion | None,
    ) -> Answer:
        url, key = await asyncio.to_thread(self._address)
        # A client of its own for each call: the one that langchain-openai keeps fails in the process's next loop.
        seconds = settings.timeout_seconds
        async with counting_async_client(failed, trust_env=not is_loopback(url), seconds=seconds) as client:
            if tools is None:
                model = structured_model(settings, self.name, schema, url, key, http_async_client=client)
            else:
                model = calling_model(settings, self.name, tools.tools, url, key, http_async_client=client)
            started = time.monotonic()
            try:
                message = await model.ainvoke(as_messages(messages), _config(metadata))
            except _errors_of_calls() as error:
                return self._recovered(error, schema, started, failed)
            if tools is not None:
                return calls_of_message(message, self.name, started, failed, tools.left)
            return answer_of_message(message, schema, self.name, started, failed)

    def check(self) -> None:
        """Sees, cheaply, whether the model can be asked: starts the local server, or calls the endpoint once or twice.

        For other providers only their package and settings are seen to.

        Raises:
            ChatModelError: one sentence that says what is wrong and what to do.
        """
        if self._server is not None:
            _ = self._server.url
        elif self._speaks_openai:
            check_endpoint(self._endpoint)
        else:
            self._provider_model(self.settings)

    def close(self) -> None:
        """Stops the local server where this model started one."""
        if self._server is not None:
            self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _speaks_openai(self) -> bool:
        return self._endpoint.provider in (LOCAL, "openai")

    def _seeded(self, seed: int | None) -> ChatSettings:
        return self.settings if seed is None else self.settings.model_copy(update={"seed": seed})

    def _address(self) -> tuple[str, str]:
        """Base URL and key; starts the local server, also again where it has ended."""
        if self._server is not None:
            return self._server.url, self._server.key
        return self._endpoint.url or "", self._endpoint.secret

    def _recovered(
        self, error: BaseException, schema: type[BaseModel], started: float, failed: Sequence[str] = ()
    ) -> Answer:
        """openai raises for answers that were cut off or filtered; these are answers all the same."""
        from openai import ContentFilterFinishReasonError, LengthFinishReasonError

        if isinstance(error, LengthFinishReasonError | ContentFilterFinishReasonError) and error.completion is not None:
            return answer_of_completion(error.completion, schema, self.name, started, failed)
        explained = explain(error, self._endpoint, len(failed))
        explained.faults = tuple(failed)
        raise explained from error

    def _provider_model(self, settings: ChatSettings) -> "BaseChatModel":
        from langchain.chat_models import init_chat_model

        errors: tuple[type[BaseException], ...] = (ImportError, *_errors_of_calls())
        try:
            model: BaseChatModel = init_chat_model(
                self.name,
                model_provider=self._endpoint.provider,
                temperature=settings.temperature,
                max_tokens=settings.max_tokens,
                timeout=settings.timeout_seconds,
                max_retries=settings.max_retries,
            )
        except errors as error:
            raise ChatModelError(
                f"The chat model {settings.chat_model} cannot be set up ({in_one_line(error)}): install the "
                "provider's LangChain package and set what it needs, or choose another chat_model."
            ) from error
        return model.model_copy(update={"seed": settings.seed}) if "seed" in type(model).model_fields else model

    def _ask_provider(
        self,
        settings: ChatSettings,
        messages: Sequence[Message],
        schema: type[BaseModel],
        metadata: Metadata,
        tools: ToolQuestion | None = None,
    ) -> Answer:
        """By the provider's own way of structured output, or of tools; in free text where it has none."""
        model, sent = self._provider_model(settings), as_messages(messages)
        started = time.monotonic()
        try:
            try:
                if tools is not None:
                    message = model.bind_tools(list(tools.tools)).invoke(sent, _config(metadata))
                    return calls_of_message(message, self.name, started, left=tools.left)
                # As a dictionary: for a pydantic class some clients raise instead of handing out a bad answer.
                structured = model.with_structured_output(strict_json_schema(schema), include_raw=True)
            except NotImplementedError:
                return answer_of_message(model.invoke(sent, _config(metadata)), schema, self.name, started)
            result = structured.invoke(sent, _config(metadata))
        except _errors_of_calls() as error:
            return self._recovered(error, schema, started)
        assert isinstance(result, dict)  # noqa: S101 - what include_raw promises
        return answer_of_message(result["raw"], schema, self.name, started)


def open_chat_model(
    settings: ChatSettings, *, log_dir: Path | None = None, server: LocalServer | None = None
) -> ChatModel:
    """The chat model that the settings name. Nothing is started or called before the first `ask` or `check`.

    Traces go to LangSmith only where the user's environment says so.

    Args:
        log_dir: where the local server writes its log; a temporary file when left out.
        server: the local server to use, where other models share it.

    Raises:
        ChatModelError: the API key is missing, or the endpoint's address is none.
        InputError: the embedded model is not installed.
    """
    if not any(name in os.environ for name in _TRACING_VARIABLES):
        os.environ["LANGSMITH_TRACING"] = "false"
    if settings.chat_model == LOCAL:
        server = open_local_server(log_dir) if server is None else server
        return ChatModel(settings, _endpoint(settings, LOCAL, EMBEDDED_NAME), server)
    provider, _, name = settings.chat_model.partition(":")
    if provider == "openai":
        return ChatModel(settings, endpoint_from_environment(settings, name))
    return ChatModel(settings, _endpoint(settings, provider, name))


def open_local_server(log_dir: Path | None = None) -> LocalServer:
    """The server of the embedded model, not started yet. Raises InputError where that is not installed."""
    return LocalServer(embedded_model_file(), log_file=None if log_dir is None else log_dir / "local-server.log")


def _endpoint(settings: ChatSettings, provider: str, name: str) -> Endpoint:
    return Endpoint(provider, name, timeout_seconds=settings.timeout_seconds, max_retries=settings.max_retries)


def _config(metadata: Metadata) -> "RunnableConfig":
    return {"metadata": metadata or {}}


def _errors_of_calls() -> tuple[type[BaseException], ...]:
    """What calls of chat models raise.

    The last four come unwrapped out of openai 3 and langchain-openai 1.7 for replies that are no chat completion.
    """
    from langchain_core.exceptions import LangChainException
    from openai import OpenAIError

    return (OpenAIError, LangChainException, OSError, AttributeError, LookupError, TypeError, ValueError)
