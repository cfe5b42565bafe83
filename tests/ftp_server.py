"""A real FTP server for tests, on loopback, in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chroma_server import free_port, wait_for_port

USER, PASSWORD = "me", "canary-9c41f"


@contextmanager
def running_ftp(folder: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Its address with the password, and its process, which the test may kill."""
    pytest.importorskip("pyftpdlib", reason="there is no FTP server here: pyftpdlib is not installed")
    port = free_port()
    folder.mkdir(exist_ok=True)
    command = ["-m", "pyftpdlib", "-i", "127.0.0.1", "-p", str(port), "-u", USER, "-P", PASSWORD, "-w", "-d"]
    process = subprocess.Popen(
        [sys.executable, *command, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for_port(process, port)
        yield f"ftp://{USER}:{PASSWORD}@127.0.0.1:{port}/kept", process
    finally:
        process.kill()
        process.wait()
