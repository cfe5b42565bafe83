"""Chat models against a real HTTP server that plays every fault."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agents.chat_answers import Answer
from agents.chat_errors import ChatModelError
from agents.chat_models import ChatModel, open_chat_model
from agents.settings import ChatSettings
from tests.fake_openai import EMPTY, KEY, PROSE, TRUNCATED, Cut, FakeOpenAI, Garbage, Hang, Item, Reply, Status
from tools.errors import InputError

ROOT = Path(__file__).parents[2]
MESSAGES = [("system", "You design."), ("user", "Design.")]


class Design(BaseModel):
    """A design."""

    model_config = ConfigDict(extra="forbid")

    hidden_size: Literal[448, 512]
    notes: list[Annotated[str, Field(max_length=20)]] = Field(min_length=1, max_length=2)


GOOD = {"hidden_size": 512, "notes": ["narrow"]}


def settings(**changes: Any) -> ChatSettings:
    return ChatSettings(**{"chat_model": "openai:fake-model", "max_retries": 0, "timeout_seconds": 20, **changes})


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "LANGSMITH_TRACING"):
        monkeypatch.delenv(name, raising=False)


def ask(monkeypatch: pytest.MonkeyPatch, *script: Item, **changes: Any) -> tuple[Answer, FakeOpenAI]:
    with FakeOpenAI(script=script) as server:
        server.set_environment(monkeypatch)
        with open_chat_model(settings(**changes)) as model:
            return asyncio.run(model.aask(MESSAGES, Design)), server


def test_good_answer_and_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, server = ask(monkeypatch, GOOD, temperature=0.3, max_tokens=77, seed=5)
    assert answer.parsed == GOOD
    assert answer.error is None
    assert answer.raw == server.requests[0].answered
    assert answer.model == "fake-model"
    assert (answer.input_tokens, answer.output_tokens) == (5, 11)
    assert answer.seconds > 0
    body = server.requests[0].body
    assert [message["content"] for message in body["messages"]] == ["You design.", "Design."]
    assert (body["temperature"], body["max_completion_tokens"], body["seed"]) == (0.3, 77, 5)
    sent = body["response_format"]["json_schema"]
    assert sent["strict"] is True
    assert sent["schema"]["properties"]["notes"]["items"]["maxLength"] == 20
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_sampled_answers_fit_and_the_seed_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeOpenAI() as server:
        server.set_environment(monkeypatch)
        with open_chat_model(settings()) as model:
            answers = [model.ask(MESSAGES, Design, seed=seed) for seed in range(3)]
    assert all(answer.parsed for answer in answers)
    assert [request.body["seed"] for request in server.requests] == [0, 1, 2]


def test_openai_models_are_asked_as_they_like_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, server = ask(monkeypatch, {"hidden_size": 512, "notes": ["x" * 21]}, chat_model="openai:gpt-5-mini")
    body = server.requests[0].body
    assert "maxLength" not in str(body["response_format"])
    assert "temperature" not in body
    # What the endpoint is not told of is checked all the same.
    assert answer.parsed is None
    assert "notes.0: String should have at most 20 characters" in str(answer.error)


def test_old_models_are_asked_by_tool_calling(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, server = ask(monkeypatch, GOOD, chat_model="openai:gpt-4-turbo")
    assert "response_format" not in server.requests[0].body
    assert server.requests[0].body["tools"][0]["function"]["name"] == "Design"
    assert answer.parsed == GOOD


@pytest.mark.parametrize(
    ("item", "raw", "words"),
    [
        (EMPTY, "", "empty"),
        (PROSE, PROSE, "no JSON object"),
        (TRUNCATED, '{"hidden_size": 51', "cut off"),
        (Reply("", finish_reason="length"), "", "longest length before any text"),
        ('{"hidden_size": 51', '{"hidden_size": 51', "incomplete"),
        ({"hidden_size": 500, "notes": ["a"]}, '{"hidden_size": 500, "notes": ["a"]}', "hidden_size: Input should be"),
        ({"hidden_size": 512}, '{"hidden_size": 512}', "notes: Field required"),
        (Reply("", refusal="I must not."), "I must not.", "refused to answer: I must not."),
        (Reply("half", finish_reason="content_filter"), "half", "content filter"),
        ("babble " * 20_000, "babble " * 20_000, "no JSON object"),
    ],
)
@pytest.mark.parametrize("chat_model", ["openai:fake-model", "openai:gpt-4"])
def test_bad_answers_are_recorded_and_never_raised(
    monkeypatch: pytest.MonkeyPatch, item: Item, raw: str, words: str, chat_model: str
) -> None:
    answer, _ = ask(monkeypatch, item, chat_model=chat_model)
    assert answer.parsed is None
    assert answer.raw == raw
    assert words in str(answer.error)
    assert answer.input_tokens == 5
    assert answer.output_tokens > 0


def test_free_text_around_the_object_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, server = ask(monkeypatch, 'Sure!\n```json\n{"hidden_size": 448, "notes": ["n"]}\n```')
    assert answer.parsed == {"hidden_size": 448, "notes": ["n"]}
    assert answer.raw == server.requests[0].answered


@pytest.mark.parametrize(
    ("item", "words", "transient"),
    [
        (Status(400), r"refuses the request \(.*scripted failure\)", False),
        (Status(400, "This model's maximum context length is 9"), "longer than the context of fake-model", False),
        (Status(401, f"Incorrect API key provided: {KEY}"), "refuses the API key: set OPENAI_API_KEY", False),
        (Status(403), "does not let this key use fake-model", False),
        (Status(404), "does not know the model fake-model", False),
        (Status(418, f"teapot {KEY}"), r"refuses the request \(.*teapot", False),
        (Status(429), "limits the rate", True),
        (Status(500), r"failed \(.*500", True),
        (Status(503), r"failed \(.*503", True),
        (Cut(), "cannot be reached", True),
        (Garbage(), "does not answer as a chat endpoint does", True),
        (Garbage("{}", "application/json"), "does not answer as", True),
        (Garbage('{"choices": []}', "application/json"), "does not answer as", True),
        (Garbage('{"choices": [{}]}', "application/json"), "does not answer as", True),
        (Garbage('{"cho', "application/json"), "does not answer as", True),
    ],
)
def test_failures_of_the_endpoint_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, item: Item, words: str, transient: bool
) -> None:
    with pytest.raises(ChatModelError, match=words) as caught:
        ask(monkeypatch, item)
    text = str(caught.value)
    assert text.startswith("The chat endpoint http://127.0.0.1:")
    assert KEY not in text
    assert "\n" not in text
    assert caught.value.transient is transient
    assert isinstance(caught.value, InputError)


def test_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ChatModelError, match=r"no answer within 0\.3 s: raise timeout_seconds"):
        ask(monkeypatch, Hang(), timeout_seconds=0.3)


def test_retries_until_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, server = ask(monkeypatch, Status(429), Cut(), GOOD, max_retries=2)
    assert answer.parsed == GOOD
    assert len(server.requests) == 3


def test_retries_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ChatModelError, match="failed in 2 attempts"):
        ask(monkeypatch, Status(500), Status(500), max_retries=1)


def test_key_in_the_address_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeOpenAI(script=[Status(500)]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url.replace("http://", "http://user:password@"))
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        with pytest.raises(ChatModelError) as caught, open_chat_model(settings()) as model:
            model.ask(MESSAGES, Design)
    assert "password" not in str(caught.value)
    assert server.url in str(caught.value)


def test_several_event_loops_and_threads_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    async def several(model: ChatModel) -> list[Answer]:
        return list(await asyncio.gather(*(model.aask(MESSAGES, Design) for _ in range(3))))

    with FakeOpenAI() as server:
        server.set_environment(monkeypatch)
        with open_chat_model(settings()) as model:
            for _ in range(3):
                assert all(answer.parsed for answer in asyncio.run(several(model)))
            with ThreadPoolExecutor(3) as pool:
                assert all(a.parsed for a in pool.map(lambda _: model.ask(MESSAGES, Design), range(3)))
    assert len(server.requests) == 12


def test_waiting_does_not_block_the_loop_and_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    async def cancelled(model: ChatModel) -> None:
        task = asyncio.create_task(model.aask(MESSAGES, Design))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with FakeOpenAI(script=[GOOD, Hang()]) as server:
        server.set_environment(monkeypatch)
        with open_chat_model(settings()) as model:
            model.ask(MESSAGES, Design)  # the slow imports
            asyncio.run(cancelled(model))


def test_proxy_of_the_environment_is_not_used_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    answer, _ = ask(monkeypatch, GOOD)
    assert answer.parsed == GOOD


def test_other_providers_through_langchain(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeOpenAI(script=[GOOD, PROSE, Status(401)]) as server:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.url.removesuffix("/v1"))
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_API_VERSION", "2025-01-01")
        with open_chat_model(settings(chat_model="azure_openai:gpt-4o")) as model:
            model.check()
            assert asyncio.run(model.aask(MESSAGES, Design, seed=9)).parsed == GOOD
            assert server.requests[0].body["seed"] == 9
            assert "no JSON object" in str(asyncio.run(model.aask(MESSAGES, Design)).error)
            with pytest.raises(ChatModelError, match="The provider azure_openai refuses the API key"):
                model.ask(MESSAGES, Design)


@pytest.mark.parametrize("chat_model", ["anthropic:claude", "no_such_provider:model"])
def test_provider_that_is_not_installed(chat_model: str) -> None:
    with open_chat_model(settings(chat_model=chat_model)) as model, pytest.raises(ChatModelError, match="install"):
        model.check()


class TestCheck:
    """Before a search: cheap, and one sentence."""

    @pytest.fixture
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
        with FakeOpenAI(key=KEY, models=("fake-model",)) as server:
            server.set_environment(monkeypatch)
            yield server

    def test_good(self, server: FakeOpenAI) -> None:
        open_chat_model(settings()).check()
        assert server.requests == []

    def test_wrong_key(self, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-key")
        with pytest.raises(ChatModelError, match="refuses the API key") as caught:
            open_chat_model(settings()).check()
        assert "sk-wrong-key" not in str(caught.value)

    def test_unknown_model(self, server: FakeOpenAI) -> None:
        with pytest.raises(ChatModelError, match="does not know the model fake-modle"):
            open_chat_model(settings(chat_model="openai:fake-modle")).check()

    def test_model_that_is_not_listed_but_served(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with FakeOpenAI() as server:
            server.set_environment(monkeypatch)
            open_chat_model(settings(chat_model="openai:alias")).check()
            assert len(server.requests) == 1

    def test_unreachable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        with pytest.raises(ChatModelError, match=rf"127\.0\.0\.1:{port}/v1 cannot be reached .*refused"):
            open_chat_model(settings()).check()

    def test_something_else_is_served_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with FakeOpenAI(script=[Garbage()]) as server:
            server.set_environment(monkeypatch)
            with pytest.raises(ChatModelError, match="does not answer as a chat endpoint"):
                open_chat_model(settings(chat_model="openai:other")).check()

    def test_missing_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ChatModelError, match=r"api\.openai\.com/v1 needs an API key and OPENAI_API_KEY is not set"):
            open_chat_model(settings())
        monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
        with pytest.raises(ChatModelError, match=r"OPENAI_API_KEY is not set: set it \(any word"):
            open_chat_model(settings())

    def test_no_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", "localhost:8000")
        with pytest.raises(ChatModelError, match="OPENAI_BASE_URL must be an address like"):
            open_chat_model(settings())

    def test_impossible_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-\u2026")
        with pytest.raises(ChatModelError, match="OPENAI_API_KEY holds characters"):
            open_chat_model(settings())


def test_tracing_is_off_unless_the_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    open_chat_model(settings())
    assert os.environ["LANGSMITH_TRACING"] == "false"
    monkeypatch.delenv("LANGSMITH_TRACING")
    monkeypatch.setenv("LANGCHAIN_TRACING_V2", "true")
    open_chat_model(settings())
    assert "LANGSMITH_TRACING" not in os.environ


@pytest.mark.parametrize("name", ["gpt-5-mini", "openai:", ":x", ""])
def test_settings_refuse_a_model_without_provider(name: str) -> None:
    with pytest.raises(ValidationError, match="PROVIDER:NAME"):
        ChatSettings(chat_model=name)


def test_opening_imports_no_langchain() -> None:
    code = (
        "import sys; from agents.chat_models import open_chat_model; from agents.settings import ChatSettings\n"
        "open_chat_model(ChatSettings(chat_model='openai:x'))\n"
        "print([m for m in ('langchain', 'langchain_core', 'openai', 'torch', 'xllamacpp') if m in sys.modules])"
    )
    environment = {**os.environ, "OPENAI_API_KEY": KEY}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
