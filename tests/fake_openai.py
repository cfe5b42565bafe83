"""An OpenAI-compatible chat endpoint for tests: a real HTTP server on a free loopback port, with scripted faults.

    with FakeOpenAI() as server:                                   # samples a legal answer for every JSON schema
    with FakeOpenAI(script=[{"a": 1}, "prose", Status(429)]) as server:   # one item a request, then samples again
    with FakeOpenAI(script=lambda body: {"a": 1} if "x" in str(body) else None) as server:   # None: sample

    server.url        base URL, ending in /v1 (for OPENAI_BASE_URL)
    server.requests   the chat requests as they came, each with .headers (names in lower case) and .body
    server.set_environment(monkeypatch)   points OPENAI_BASE_URL and OPENAI_API_KEY here

It embeds texts too, by the letters that they have, 26 numbers each; requests count and scripts apply as for chats.

An item of a script is a dictionary (answered as JSON), a text (answered as it stands), a `Reply` (text with finish
reason, token counts, delay), `Calls` (of tools) or a fault: `Status`, `Hang`, `Cut`, `Trickle`, `Flood`, `Garbage`,
`EMPTY`, `PROSE`, `TRUNCATED`.
"""

import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import pytest

KEY = "sk-test-0123456789"


@dataclass(frozen=True)
class Reply:
    """A chat answer in detail; token counts are made up from the lengths where they are None."""

    text: str
    finish_reason: str = "stop"
    input_tokens: int | None = None
    output_tokens: int | None = None
    refusal: str | None = None
    delay_seconds: float = 0.0


@dataclass(frozen=True)
class Calls:
    """Calls of tools: pairs of name and arguments, which are JSON text that need not be right."""

    calls: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """What is recorded as answered."""
        return repr(self.calls)


@dataclass(frozen=True)
class Status:
    """An HTTP error, with further headers such as `(("Retry-After", "1"),)`."""

    code: int
    message: str = "scripted failure"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Hang:
    """No answer for so long (or until the server is closed), then the connection is cut."""

    seconds: float = 60.0


@dataclass(frozen=True)
class Cut:
    """The connection is cut in the middle of the answer."""


@dataclass(frozen=True)
class Trickle:
    """A byte now and then, which never becomes an answer."""

    every_seconds: float = 0.1


@dataclass(frozen=True)
class Flood:
    """An answer that comes as fast as it can and never ends."""


@dataclass(frozen=True)
class Garbage:
    """Status 200 with a body that is no chat completion."""

    body: str = "<html>gateway</html>"
    content_type: str = "text/html"


Fault = Status | Hang | Cut | Trickle | Flood | Garbage
Item = dict[str, Any] | str | Reply | Calls | Fault
Script = Iterable[Item] | Callable[[dict[str, Any]], Item | None]

EMPTY = ""
PROSE = "I would rather talk about the weather, which is fine today."
TRUNCATED = Reply('{"hidden_size": 51', finish_reason="length")


@dataclass(frozen=True)
class Request:
    """A chat request as it came."""

    headers: dict[str, str]
    body: dict[str, Any]
    answered: str = field(default="", compare=False)
    arrived: float = field(default_factory=time.monotonic, compare=False)


def sample(schema: dict[str, Any], random_: random.Random, root: dict[str, Any] | None = None) -> Any:
    """A legal value of a JSON schema, drawn at random. Patterns and formats are not supported."""
    root = schema if root is None else root
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return sample({**target, **{k: v for k, v in schema.items() if k != "$ref"}}, random_, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return random_.choice(schema["enum"])
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return sample(random_.choice(schema[choice]), random_, root)
    if "pattern" in schema:
        raise NotImplementedError("the fake endpoint cannot sample patterns; give it a script")
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = random_.choice(kind)
    if kind == "object":
        return {name: sample(part, random_, root) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        low = schema.get("minItems", 0)
        length = random_.randint(low, schema.get("maxItems", low + 3))
        return [sample(schema.get("items", {"type": "string"}), random_, root) for _ in range(length)]
    if kind == "integer":
        low, high = _bounds(schema, 1)
        step = schema.get("multipleOf", 1)
        return random_.randint(-(-low // step), high // step) * step
    if kind == "number":
        low, high = _bounds(schema, 1e-6)
        return random_.uniform(low, high)
    if kind == "boolean":
        return random_.random() < 0.5
    if kind == "null":
        return None
    low = schema.get("minLength", 0)
    length = random_.randint(low, min(schema.get("maxLength", low + 24), low + 60))
    return "".join(random_.choice("abcdefgh ") for _ in range(length))


def _bounds(schema: dict[str, Any], margin: Any) -> tuple[Any, Any]:
    low = schema.get("minimum", schema["exclusiveMinimum"] + margin if "exclusiveMinimum" in schema else None)
    high = schema.get("maximum", schema["exclusiveMaximum"] - margin if "exclusiveMaximum" in schema else None)
    if low is None:
        low = 0 if high is None else high - 100
    return low, low + 100 if high is None else high


class FakeOpenAI:
    """The server; see the module's text.

    Args:
        script: what to answer, in order, or a function of the request's body; sampled answers where it gives nothing.
        seed: of the sampled answers.
        key: the only API key that is accepted (401 otherwise); None accepts every one.
        models: the only models there are (404 otherwise); None accepts every one and lists "fake-model".
        port: where to serve, so that a server that is gone can come back; 0 is a free one.
    """

    def __init__(
        self,
        script: Script = (),
        *,
        seed: int = 0,
        key: str | None = None,
        models: tuple[str, ...] | None = None,
        port: int = 0,
    ) -> None:
        self._script = script if callable(script) else iter(script)
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.key = key
        self.models = models
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"fake": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def set_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lets the OpenAI clients of this process speak to this server."""
        monkeypatch.setenv("OPENAI_BASE_URL", self.url)
        monkeypatch.setenv("OPENAI_API_KEY", self.key or KEY)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the server; requests that hang are cut."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, headers: dict[str, str], body: dict[str, Any]) -> Reply | Calls | Fault:
        """The next item of the script for a request, which is recorded."""
        with self._lock:
            item = self._script(body) if callable(self._script) else next(self._script, None)
            if item is None:
                item = self._sampled(body)
            if isinstance(item, dict):
                item = json.dumps(item)
            if isinstance(item, str):
                item = Reply(item)
            self.requests.append(Request(headers, body, item.text if isinstance(item, Reply | Calls) else repr(item)))
            return item

    def embed(self, headers: dict[str, str], body: dict[str, Any]) -> dict[str, Any] | Item:
        """The next item of the script for a request for embeddings, which is recorded, or the embeddings."""
        with self._lock:
            item = self._script(body) if callable(self._script) else next(self._script, None)
            self.requests.append(Request(headers, body, repr(item)))
        if item is not None:
            return item
        rows = [[1.0 + text.lower().count(chr(97 + place)) for place in range(26)] for text in body["input"]]
        data = [{"object": "embedding", "index": place, "embedding": row} for place, row in enumerate(rows)]
        return {"object": "list", "data": data, "model": body["model"], "usage": {"prompt_tokens": 1}}

    def _sampled(self, body: dict[str, Any]) -> str:
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        if schema is None and body.get("tools") and _must_call(body):
            schema = body["tools"][0]["function"]["parameters"]
        return "A sampled answer." if schema is None else json.dumps(sample(schema, self._random))


class _Handler(BaseHTTPRequestHandler):
    fake: FakeOpenAI
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self._refused():
            return
        names = self.fake.models or ("fake-model",)
        if self.path == "/v1/models":
            self._send(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in names]})
        else:
            self._error(404, "no such path")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._refused():
            return
        path, headers = self.path.partition("?")[0], {key.lower(): value for key, value in self.headers.items()}
        embeds = path.endswith("/embeddings")
        if not embeds and not path.endswith("/chat/completions"):
            self._error(404, f"no such path: {self.path}")
            return
        if self.fake.models is not None and body["model"] not in self.fake.models:
            self._error(404, f"The model `{body['model']}` does not exist")
            return
        answer: Any = self.fake.embed(headers, body) if embeds else self.fake.answer(headers, body)
        if isinstance(answer, dict):
            self._send(200, answer)
        elif isinstance(answer, Status):
            self._error(answer.code, answer.message, answer.headers)
        elif isinstance(answer, Hang):
            self.fake.closing.wait(answer.seconds)
            self.close_connection = True
        elif isinstance(answer, Cut):
            self._head(200, "application/json", 1000)
            self.wfile.write(b'{"id": "cut')
            self.close_connection = True
        elif isinstance(answer, Trickle):
            self._trickle(answer.every_seconds)
        elif isinstance(answer, Flood):
            self._flood()
        elif isinstance(answer, Garbage):
            self._head(200, answer.content_type, len(answer.body.encode()))
            self.wfile.write(answer.body.encode())
        elif isinstance(answer, Calls):
            self._send(200, _called(answer, body))
        else:
            time.sleep(answer.delay_seconds)
            self._send(200, _completion(answer, body))

    def _trickle(self, every_seconds: float) -> None:
        self._head(200, "application/json", 10**6)
        self.close_connection = True
        try:
            while not self.fake.closing.wait(every_seconds):
                self.wfile.write(b" ")
        except OSError:
            pass  # the other side has had enough

    def _flood(self) -> None:
        self._head(200, "application/json", 10**12)
        self.close_connection = True
        with contextlib.suppress(OSError):  # the other side has had enough
            while not self.fake.closing.is_set():
                self.wfile.write(b" " * 2**16)

    def _refused(self) -> bool:
        refused = self.fake.key is not None and self.headers.get("Authorization") != f"Bearer {self.fake.key}"
        if refused:
            self._error(401, f"Incorrect API key provided: {self.headers.get('Authorization')}")
        return refused

    def _error(self, code: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self._send(code, {"error": {"message": message, "type": "fake_error", "code": code}}, headers)

    def _send(self, code: int, value: dict[str, Any], headers: tuple[tuple[str, str], ...] = ()) -> None:
        data = json.dumps(value).encode()
        self._head(code, "application/json", len(data), headers)
        self.wfile.write(data)

    def _head(self, code: int, content_type: str, length: int, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.send_response(code)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(length))
        self.end_headers()


def _must_call(body: dict[str, Any]) -> bool:
    return isinstance(body.get("tool_choice"), dict) or body.get("tool_choice") == "required"


def _called(answer: Calls, body: dict[str, Any]) -> dict[str, Any]:
    completion = _completion(Reply("", finish_reason="tool_calls"), body)
    calls = [
        {"id": f"server-{time.monotonic_ns()}-{place}", "type": "function", "function": {"name": n, "arguments": text}}
        for place, (n, text) in enumerate(answer.calls)
    ]
    completion["choices"][0]["message"] |= {"content": None, "tool_calls": calls}
    return completion


def _completion(reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
    asked = sum(len(str(message.get("content") or "")) for message in body["messages"]) // 4 + 1
    given = len(reply.text) // 4 + 1
    prompt_tokens = asked if reply.input_tokens is None else reply.input_tokens
    completion_tokens = given if reply.output_tokens is None else reply.output_tokens
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": reply.refusal}
    if body.get("tools") and _must_call(body) and reply.text.startswith("{"):
        function = {"name": body["tools"][0]["function"]["name"], "arguments": reply.text}
        message |= {"content": None, "tool_calls": [{"id": "call_0", "type": "function", "function": function}]}
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason, "logprobs": None}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }
