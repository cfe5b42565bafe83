"""A real Chroma server for tests, on loopback."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.postgresql import NewDatabase

PROGRAM = Path(sys.executable).with_name("chroma")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Return when somebody answers at the port."""
    until = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < until, "the server did not start"
            time.sleep(0.05)


@contextmanager
def running_chroma(folder: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Its address and its process, which the test may kill."""
    port = free_port()
    process = subprocess.Popen(
        [str(PROGRAM), "run", "--path", str(folder), "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, "ANONYMIZED_TELEMETRY": "False"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_port(process, port)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def chroma_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one server for all tests of this process that ask for one; each set of records has its own."""
    with running_chroma(tmp_path_factory.mktemp("chroma")) as (url, _):
        yield url


@pytest.fixture
def chroma_beside_postgresql(request: pytest.FixtureRequest, new_database: NewDatabase) -> str | None:
    """For tests with `both_databases`: a folder where the records are a file, a server where they are on one."""
    on_server = "postgresql" in request.node.callspec.params.values()
    return request.getfixturevalue("chroma_server") if on_server else None
