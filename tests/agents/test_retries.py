"""Failed attempts against a real HTTP server: repeated after a wait, counted, and given up in one sentence."""

import asyncio
import gzip
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from httpx2 import ReadError
from pydantic import BaseModel

from agents import attempts
from agents.chat_answers import Answer
from agents.chat_errors import ChatModelError
from agents.chat_models import open_chat_model
from agents.settings import ChatSettings
from tests.fake_openai import Cut, FakeOpenAI, Flood, Hang, Item, Reply, Status, Trickle


class Word(BaseModel):
    """A word."""

    word: str


GOOD = {"word": "tree"}
# What OpenAI's and Azure's endpoints send beside Retry-After, so that tests need not wait whole seconds.
SOON = (("Retry-After-Ms", "20"),)

Ask = Callable[..., tuple[Answer, FakeOpenAI]]


@pytest.fixture(params=["asynchronous", "synchronous"])
def ask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ask:
    def asked(*script: Item, **changes: object) -> tuple[Answer, FakeOpenAI]:
        plain = {"chat_model": "openai:fake", "max_retries": 3, "timeout_seconds": 20, **changes}
        with FakeOpenAI(script=script) as server:
            server.set_environment(monkeypatch)
            with open_chat_model(ChatSettings.model_validate(plain)) as model:
                if request.param == "synchronous":
                    return model.ask([("user", "Say.")], Word), server
                return asyncio.run(model.aask([("user", "Say.")], Word)), server

    return asked


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        (Status(429, headers=SOON), "HTTP 429"),
        (Status(500, headers=SOON), "HTTP 500"),
        (Status(503, headers=SOON), "HTTP 503"),
        (Cut(), "cut connection"),
    ],
)
def test_a_failed_attempt_is_repeated_and_counted(ask: Ask, item: Item, fault: str) -> None:
    answer, server = ask(item, GOOD)
    assert answer.parsed == GOOD
    assert answer.faults == (fault,)
    assert len(server.requests) == 2
    assert server.requests[0].body == server.requests[1].body


def test_a_slow_answer_is_asked_for_again(ask: Ask) -> None:
    answer, server = ask(Reply("late", delay_seconds=1.5), GOOD, timeout_seconds=0.5)
    assert answer.parsed == GOOD
    assert answer.faults == ("timeout",)
    assert len(server.requests) == 2


def test_an_answer_that_comes_byte_by_byte_is_too_slow_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeOpenAI(script=[Trickle(), GOOD]) as server:
        server.set_environment(monkeypatch)
        settings = ChatSettings(chat_model="openai:fake", max_retries=1, timeout_seconds=0.5)
        with open_chat_model(settings) as model:
            answer = asyncio.run(model.aask([("user", "Say.")], Word))
    assert answer.parsed == GOOD
    assert answer.faults == ("timeout",)


def test_an_answer_that_never_ends_is_left_in_time(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MOST_BYTES", 2**20)
    answer, _ = ask(Flood(), GOOD)
    assert answer.parsed == GOOD
    assert answer.faults == ("endless answer",)
    with pytest.raises(ChatModelError, match="does not end within 1 MiB"):
        ask(Flood(), max_retries=0)


def test_a_compressed_answer_counts_as_long_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few kilobytes that become a gigabyte are given up at the limit, and good ones are read."""
    body = gzip.compress(b" " * 2**26)
    assert len(body) < 2**17

    class Compressed(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            for name, value in (("Content-Encoding", "gzip"), ("Content-Length", str(len(body)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    monkeypatch.setattr(attempts, "MOST_BYTES", 2**20)
    with HTTPServer(("127.0.0.1", 0), Compressed) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        failed: list[str] = []
        with attempts.counting_client(failed, trust_env=False) as client, pytest.raises(ReadError, match="1 MiB"):
            client.post(f"http://127.0.0.1:{server.server_address[1]}/")
        assert failed == ["endless answer"]
        body = gzip.compress(b'{"word": "tree"}')
        with attempts.counting_client(failed, trust_env=False) as client:
            assert client.post(f"http://127.0.0.1:{server.server_address[1]}/").json() == GOOD
        server.shutdown()


def test_the_server_says_how_long_to_wait(ask: Ask) -> None:
    answer, server = ask(Status(429, headers=(("Retry-After", "1"),)), GOOD)
    assert answer.parsed == GOOD
    assert server.requests[1].arrived - server.requests[0].arrived >= 0.95


def test_without_its_word_the_wait_doubles(ask: Ask) -> None:
    _, server = ask(Status(500), Status(500), GOOD)
    first, second, third = (request.arrived for request in server.requests)
    assert second - first >= 0.37, "0.5 s less a random quarter"
    assert third - second >= 0.75, "1 s less a random quarter"


def test_several_faults_in_their_order_and_that_of_the_answer(ask: Ask) -> None:
    answer, _ = ask(Status(429, headers=SOON), Cut(), Status(502, headers=SOON), "no JSON at all")
    assert answer.faults == ("HTTP 429", "cut connection", "HTTP 502", "no JSON")


def test_what_cannot_become_better_is_not_repeated(ask: Ask) -> None:
    with pytest.raises(ChatModelError, match="refuses the request"):
        ask(Status(400), GOOD)


def test_a_wait_of_hours_is_not_waited_for(ask: Ask) -> None:
    with pytest.raises(ChatModelError, match="limits the rate") as caught:
        ask(Status(429, headers=(("Retry-After", "7200"),)), GOOD)
    assert "attempts" not in str(caught.value), "there was one"


def test_a_dead_endpoint_is_given_up_in_one_sentence(ask: Ask) -> None:
    with pytest.raises(ChatModelError, match=r"failed in 3 attempts .*try again later") as caught:
        ask(*(3 * [Status(500, headers=SOON)]), GOOD, max_retries=2)
    assert caught.value.transient
    with pytest.raises(ChatModelError, match=r"no answer within 0\.2 s in 2 attempts"):
        ask(Hang(), Hang(), max_retries=1, timeout_seconds=0.2)
