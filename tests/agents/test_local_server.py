"""The local server with the embedded model: started, asked, closed, and killed with its owner, all for real."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import pytest
from pydantic import BaseModel, ConfigDict, Field

from agents.chat_errors import ChatModelError
from agents.chat_models import ChatModel, open_chat_model
from agents.chat_team import open_chat_team
from agents.local_server import LocalServer
from agents.settings import ChatSettings
from tools.embedded import EMBEDDED_NAME, embedded_model_file
from tools.errors import InputError

ROOT = Path(__file__).parents[2]
try:
    MODEL = embedded_model_file()
except InputError as missing:
    pytest.skip(str(missing), allow_module_level=True)

SYSTEM = "You design compact language models: a hidden size and runs of equal layers. Keep the loss low. " * 4


class Strategies(BaseModel):
    model_config = ConfigDict(extra="forbid")

    strategies: list[Annotated[str, Field(max_length=120)]] = Field(min_length=1, max_length=3)


class LayerSpan(BaseModel):
    model_config = ConfigDict(extra="forbid")

    first_layer: int = Field(ge=0, le=29)
    last_layer: int = Field(ge=0, le=29)
    num_key_value_heads: int = Field(ge=1, le=3)
    intermediate_size: Literal[512, 768, 1024, 1280, 1536]


class Design(BaseModel):
    model_config = ConfigDict(extra="forbid")

    hidden_size: Literal[448, 512, 576]
    spans: list[LayerSpan] = Field(min_length=1, max_length=4)


class Word(BaseModel):
    model_config = ConfigDict(extra="forbid")

    word: str = Field(max_length=6)


class Choice(BaseModel):
    model_config = ConfigDict(extra="forbid")

    heads: Literal[1, 2, 3]


def listens(url: str) -> bool:
    parts = urlsplit(url)
    with socket.socket() as client:
        return client.connect_ex((str(parts.hostname), int(parts.port or 0))) == 0


def closed_soon(url: str) -> bool:
    deadline = time.monotonic() + 20
    while listens(url):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatModel]:
    with open_chat_model(ChatSettings(max_tokens=24), log_dir=tmp_path_factory.mktemp("log")) as model:
        yield model


def test_answers_in_the_shape_that_is_asked_for(model: ChatModel) -> None:
    model.check()
    answer = model.ask([("system", SYSTEM), ("user", "How many heads?")], Choice)
    assert answer.error is None
    assert answer.parsed is not None
    assert answer.model == model.name == EMBEDDED_NAME
    assert answer.input_tokens > 80
    assert 0 < answer.output_tokens <= 24


def test_a_repeated_beginning_is_not_read_again(model: ChatModel) -> None:
    first = model.ask([("system", "New. " + SYSTEM), ("user", "How many heads now?")], Choice)
    second = model.ask([("system", "New. " + SYSTEM), ("user", "And how many then?")], Choice)
    assert first.cached_tokens < 20
    assert second.cached_tokens > 0.8 * second.input_tokens


def test_the_same_seed_gives_the_same_answer_and_loops_may_change(model: ChatModel) -> None:
    answers = [asyncio.run(model.aask([("user", "Write.")], Word, seed=seed)).raw for seed in (1, 1, 2, 3)]
    assert answers[0] == answers[1]
    assert len(set(answers)) > 1


def test_agents_share_one_server() -> None:
    common = ChatSettings(max_tokens=24)
    cold = common.model_copy(update={"temperature": 0.0})
    with open_chat_team({"evolver": common, "distiller": cold}) as team:
        team.check()
        servers = [team.model(agent)._server for agent in ("evolver", "distiller")]
        assert servers[0] is not None and servers[0] is servers[1]
        for agent in ("evolver", "distiller"):
            assert team.model(agent).ask([("user", "How many heads?")], Choice).parsed
        url = servers[0].url
    assert closed_soon(url)


def test_a_server_that_is_killed_in_the_middle_is_started_and_asked_again() -> None:
    class Story(BaseModel):
        model_config = ConfigDict(extra="forbid")

        sentences: list[Annotated[str, Field(min_length=60, max_length=80)]] = Field(min_length=4, max_length=4)

    with open_chat_model(ChatSettings(max_tokens=400, max_retries=1)) as model:
        model.check()
        assert model._server is not None and model._server.process_id is not None
        first = model._server.process_id
        killing = threading.Timer(0.2, os.kill, (first, signal.SIGKILL))
        killing.start()
        answer = asyncio.run(model.aask([("user", "Tell a story.")], Story))
        killing.join()
        assert model._server.process_id not in (None, first)
    assert answer.parsed is not None
    assert set(answer.faults) <= {"cut connection", "no connection"} and answer.faults


def test_a_prompt_beyond_the_context_is_told(model: ChatModel) -> None:
    with pytest.raises(ChatModelError, match="The local model server says that the prompt is longer than the context"):
        model.ask([("user", "layer " * 5000)], Choice)


def test_requests_need_the_key_and_a_server_that_was_killed_is_started_again() -> None:
    with LocalServer(MODEL, context=512) as server:
        url = server.url
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.build_opener().open(f"{url}/chat/completions", b"{}", timeout=20)
        assert caught.value.code == 401
        assert server.process_id is not None
        os.kill(server.process_id, signal.SIGKILL)
        assert closed_soon(url)
        assert not server.running
        again = server.url
        assert listens(again)
        assert server.running
    assert not server.running
    assert closed_soon(again)
    server.close()


def test_dies_with_a_killed_owner(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from agents.local_server import LocalServer\n"
        "server = LocalServer(Path(sys.argv[1]), context=512, log_file=Path(sys.argv[2]))\n"
        "print(server.url, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(MODEL), str(tmp_path / "server.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as owner:
        assert owner.stdout is not None
        url = owner.stdout.readline().decode().strip()
        assert listens(url)
        owner.kill()
    assert closed_soon(url)


def test_module_prints_one_line_and_ends_with_its_input() -> None:
    command = [sys.executable, "-m", "agents.local_server", "--model", str(MODEL), "--context", "512"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        url = json.loads(process.stdout.readline())["url"]
        assert listens(url)
        process.stdin.close()
        assert process.wait(20) == 3
        assert process.stdout.read() == b""


def test_file_that_is_no_model_is_told_with_its_reason(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"no model")
    log = tmp_path / "logs" / "server.log"
    with LocalServer(bad, log_file=log) as server, pytest.raises(ChatModelError, match=r"ended at its start .*magic"):
        _ = server.url
    assert str(bad) in log.read_text()


def test_start_that_takes_too_long_is_ended() -> None:
    with LocalServer(MODEL, start_seconds=0.01) as server:
        with pytest.raises(ChatModelError, match=r"did not start within 0\.01 s"):
            _ = server.url
        assert not server.running


@pytest.mark.slow
@pytest.mark.parametrize("schema", [Strategies, Design])
def test_ten_of_ten_answers_fit_their_schema(schema: type[BaseModel]) -> None:
    with open_chat_model(ChatSettings()) as model:
        answers = [model.ask([("system", SYSTEM), ("user", "Answer.")], schema, seed=seed) for seed in range(10)]
    assert [answer.error for answer in answers] == [None] * 10
