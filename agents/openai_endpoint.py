"""How OpenAI-compatible endpoints are found, checked and asked; the local server is one of them."""

import ipaddress
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from agents.attempts import trusted
from agents.chat_errors import ChatModelError, Endpoint, explain
from agents.json_schema import strict_json_schema
from agents.model_traits import model_traits
from agents.settings import ChatSettings

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import Runnable
    from langchain_core.tools import BaseTool
    from langchain_openai import ChatOpenAI

_OPENAI_URL = "https://api.openai.com/v1"
_CHECK_SECONDS = 15.0


def endpoint_from_environment(settings: ChatSettings, name: str) -> Endpoint:
    """The endpoint that OPENAI_BASE_URL (OpenAI's own when unset) and OPENAI_API_KEY name.

    Raises:
        ChatModelError: the key is missing or impossible, or the address is none.
    """
    url = (os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_BASE") or _OPENAI_URL).strip()
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise ChatModelError("OPENAI_BASE_URL must be an address like http://localhost:8000/v1: correct or unset it.")
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    endpoint = Endpoint("openai", name, url, key, settings.timeout_seconds, settings.max_retries)
    if not key:
        hint = "" if url == _OPENAI_URL else " (any word will do where the server asks for none)"
        raise ChatModelError(f"{endpoint} needs an API key and OPENAI_API_KEY is not set: set it{hint}.")
    if not (key.isascii() and key.isprintable()):
        raise ChatModelError("OPENAI_API_KEY holds characters that no API key has: copy the key again.")
    return endpoint


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own, where no proxy of the environment must be used."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def structured_model(
    settings: ChatSettings, name: str, schema: type[BaseModel], url: str, key: str, **clients: Any
) -> "Runnable[Any, BaseMessage]":
    """LangChain's ChatOpenAI, bound to answer as `schema` says: by native JSON schema, or by a call of one tool.

    Args:
        clients: `http_client` or `http_async_client`, which the caller closes.
    """
    traits, model = model_traits(name), _chat_model(settings, name, url, key, **clients)
    # Not by with_structured_output: its parser is ours to replace all the same (openai's loses bad answers for a
    # pydantic class, LangChain's for a dictionary takes quadratic time: two minutes for 20,000 words of prose).
    answer = strict_json_schema(schema, traits.refused_keywords)
    if traits.method == "function_calling":
        return model.bind_tools([answer], tool_choice=answer["title"], strict=True, parallel_tool_calls=False)
    named = {"name": answer.pop("title"), "description": answer.pop("description"), "schema": answer, "strict": True}
    return model.bind(response_format={"type": "json_schema", "json_schema": named})


def calling_model(
    settings: ChatSettings, name: str, tools: "Sequence[BaseTool]", url: str, key: str, **clients: Any
) -> "Runnable[Any, BaseMessage]":
    """LangChain's ChatOpenAI with tools that it may call. Arguments as for `structured_model`."""
    return _chat_model(settings, name, url, key, **clients).bind_tools(list(tools))


def _chat_model(settings: ChatSettings, name: str, url: str, key: str, **clients: Any) -> "ChatOpenAI":
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(
        model=name,
        base_url=url,
        api_key=SecretStr(key),
        temperature=settings.temperature if model_traits(name).takes_temperature else None,
        max_completion_tokens=settings.max_tokens,
        timeout=settings.timeout_seconds,
        max_retries=settings.max_retries,
        seed=settings.seed,
        # A streamed answer carries no token counts on many servers.
        disable_streaming=True,
        use_responses_api=False,
        **clients,
    )


def check_endpoint(endpoint: Endpoint) -> None:
    """Sees whether the endpoint answers, takes the key and has the model: by its list of models, and where the model
    is not in it (not every server lists all it serves) by one very short question.

    Raises:
        ChatModelError: one sentence that says what is wrong and what to do.
    """
    import openai

    url = endpoint.url or _OPENAI_URL
    not_a_reply = (AttributeError, LookupError, TypeError, ValueError)
    trust_env = not is_loopback(url)
    with openai.DefaultHttpxClient(trust_env=trust_env, verify=trusted(trust_env=trust_env)) as http_client:
        client = openai.OpenAI(
            base_url=url,
            api_key=endpoint.secret,
            http_client=http_client,
            timeout=min(_CHECK_SECONDS, endpoint.timeout_seconds),
            max_retries=min(1, endpoint.max_retries),
        )
        try:
            listed = {model.id for model in client.models.list().data}
        except (openai.NotFoundError, *not_a_reply):
            listed = set()
        except openai.OpenAIError as error:
            raise explain(error, endpoint) from error
        if endpoint.model in listed:
            return
        try:
            reply = client.chat.completions.create(
                model=endpoint.model, messages=[{"role": "user", "content": "Hello"}], max_completion_tokens=16
            )
            _ = reply.choices[0]
        except openai.BadRequestError:
            # It reads our question and has the model; a real question may be to its liking.
            return
        except (openai.OpenAIError, *not_a_reply) as error:
            raise explain(error, endpoint) from error
