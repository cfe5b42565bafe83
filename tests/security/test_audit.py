"""The audit of packages, against advisories on loopback: fails for a vulnerability, and not for want of a network."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.security.audit import audit

ADVISORY = {
    "id": "PYSEC-2026-0001",
    "summary": "Reads what it should not.",
    "affected": [
        {
            "package": {"name": "weak", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}],
        }
    ],
}


class Advisories(BaseHTTPRequestHandler):
    """Knows one vulnerable package."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"vulns": [ADVISORY]} if asked["package"]["name"] == "weak" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def advisories() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Advisories) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/query"
        server.shutdown()


def test_a_vulnerable_package_is_named(
    advisories: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    pinned = tmp_path / "pinned.txt"
    pinned.write_text("weak==1.0\nstrong==1.0\n")
    assert audit(pinned, advisories) == 1
    said = capsys.readouterr().out
    assert "weak 1.0 has PYSEC-2026-0001, mended in 2.0." in said and "2 of 2 packages audited, 1 known" in said
    pinned.write_text("strong==1.0\n")
    assert audit(pinned, advisories) == 0
    assert "1 of 1 packages audited, 0 known" in capsys.readouterr().out


def test_without_a_network_one_sentence_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(tmp_path / "any.txt", "http://127.0.0.1:9/v1/query") == 0
    said = capsys.readouterr().out
    assert said.startswith("The packages were not audited: http://127.0.0.1:9/v1/query cannot be reached (")
    assert said.count("\n") == 1
