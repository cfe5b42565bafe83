"""The page against requests that other sites make with a visitor's browser: real HTTP, real WebSockets."""

import base64
import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

PENJING = [sys.executable, "-m", "penjing.main"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """Port and process id of the page, started in a folder whose config.toml would open it to all."""
    folder = tmp_path_factory.mktemp("page")
    (folder / ".streamlit").mkdir()
    (folder / ".streamlit" / "config.toml").write_text(
        '[server]\nenableCORS = false\nenableXsrfProtection = false\nenableAgentApi = true\nallowedHosts = ["*"]\n'
        'corsAllowedOrigins = ["http://evil.example"]\naddress = "0.0.0.0"\n'
    )
    environment = {**os.environ, "PENJING_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*PENJING, "ui", "--json"], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    port = int(json.loads(line)["url"].rpartition(":")[2])
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield port, process.pid
    process.terminate()
    process.communicate(timeout=30)


def handshake(port: int, origin: str | None, host: str | None = None) -> int:
    """The status of a WebSocket handshake such as a page of `origin` makes; 101 lets it in."""
    headers = {
        "Host": host or f"127.0.0.1:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(secrets.token_bytes(16)).decode(),
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "streamlit",
    }
    return request(port, "GET", "/_stcore/stream", headers | ({} if origin is None else {"Origin": origin})).status


def request(port: int, method: str, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest(method, path, skip_host=True)
    for name, value in ({"Host": f"127.0.0.1:{port}", "Content-Length": "0"} | headers).items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse()


def test_the_page_itself_is_let_in(served: tuple[int, int]) -> None:
    port, _ = served
    assert request(port, "GET", "/", {}).status == 200
    assert handshake(port, f"http://127.0.0.1:{port}") == 101
    assert handshake(port, f"http://localhost:{port}", f"localhost:{port}") == 101


@pytest.mark.parametrize("origin", ["http://evil.example", "https://127.0.0.1.evil.example", "http://evil.example:80"])
def test_a_page_of_another_site_is_not(served: tuple[int, int], origin: str) -> None:
    port, _ = served
    assert handshake(port, origin) == 403


def test_a_name_that_was_made_to_point_here_is_not(served: tuple[int, int]) -> None:
    """DNS rebinding: for the browser page and server are of one origin."""
    port, _ = served
    assert handshake(port, f"http://evil.example:{port}", f"evil.example:{port}") == 403


def test_nothing_may_be_read_or_sent_from_another_site(served: tuple[int, int]) -> None:
    port, _ = served
    foreign = {"Origin": "http://evil.example"}
    for path in ("/", "/_stcore/health", "/_stcore/host-config"):
        answer = request(port, "GET", path, foreign)
        assert answer.getheader("Access-Control-Allow-Origin") is None, path
    for method, path in (("PUT", "/_stcore/upload_file/session/file"), ("DELETE", "/_stcore/upload_file/session/file")):
        assert request(port, method, path, foreign).status == 403, "without the token of the cookie"


def test_programs_cannot_drive_it_by_the_agents_interface(served: tuple[int, int]) -> None:
    port, _ = served
    begin = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "any", "version": "1"}}
    called = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": begin}
    for path in ("/_stcore/agent/interact", "/_stcore/agent/mcp"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", path, json.dumps(called), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status in (403, 404) or "error" in json.loads(answer.read()), path


def test_only_this_machine_reaches_it(served: tuple[int, int]) -> None:
    port, process_id = served
    listening = [one for one in psutil.Process(process_id).net_connections("tcp") if one.status == "LISTEN"]
    assert [(one.laddr.ip, one.laddr.port) for one in listening] == [("127.0.0.1", port)]
