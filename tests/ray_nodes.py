"""A cluster of Ray on loopback whose nodes are processes of their own, as `ray start` makes them, and can be killed.

The head has no cores: what works does so on a node that can be lost without the cluster.
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import psutil

from tests.chroma_server import free_port

_START_SECONDS = 120.0


class Node:
    """One `ray start --block` with all that it starts."""

    def __init__(self, log: Path, *options: str, environment: Mapping[str, str]) -> None:
        # A node that is lost is noticed after two seconds, not after fifteen.
        quick = {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "4"}
        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        size = ["--object-store-memory", str(100 * 2**20), "--dashboard-agent-listen-port", "0"]
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, *size, *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **quick, **quiet, **environment},
                start_new_session=True,
            )

    @property
    def runs(self) -> bool:
        """Whether `ray start` and its raylet are there."""
        return self._process.poll() is None and self._raylet() is not None

    @property
    def said(self) -> str:
        """What `ray start` printed."""
        return self._log.read_text(errors="replace")

    def works(self) -> bool:
        """Whether one of its processes carries out a request."""
        raylet = self._raylet()
        workers = raylet.children(recursive=True) if raylet is not None else []
        return any(_name(worker) == "ray::answers" for worker in workers)

    def kill(self) -> None:
        """`kill -9` of the raylet: its workers end with it, as on a machine that is switched off."""
        raylet = self._raylet()
        assert raylet is not None, self.said
        raylet.kill()

    def close(self) -> None:
        """End it with all its processes."""
        started = psutil.Process(self._process.pid).children(recursive=True) if self._process.poll() is None else []
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            # It asks a head that may be gone.
            self._process.kill()
            self._process.wait()
        _, alive = psutil.wait_procs(started, timeout=5)
        for process in alive:
            process.kill()

    def _raylet(self) -> psutil.Process | None:
        if self._process.poll() is not None:
            return None
        children = psutil.Process(self._process.pid).children()
        return next((child for child in children if _name(child).endswith("/raylet")), None)


class RayNodes:
    """A head, and the nodes that were added; use as a context manager, which ends all of them."""

    def __init__(self, folder: Path, token: bool = True) -> None:
        self.environment = {"RAY_AUTH_MODE": "disabled"}
        if token:
            (folder / "token").write_text(secrets.token_hex(32))
            self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
        # Paths of sockets are short, and Ray's usual folder says to all others which cluster is "the" one.
        self._files = Path(tempfile.mkdtemp(prefix="ray-"))
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self._folder, self.nodes = folder, list[Node]()
        options = [
            "--port",
            str(port),
            "--node-ip-address",
            "127.0.0.1",
            "--num-cpus",
            "0",
            "--include-dashboard=false",
        ]
        options += ["--temp-dir", str(self._files)]
        self.head = Node(folder / "head.log", "--head", *options, environment=self.environment)
        self._wait(self.head)

    def add(self, count: int) -> list[Node]:
        """Further nodes, with one core each."""
        options, before = ["--address", self.address, "--num-cpus", "1"], len(self.nodes)
        for number in range(before, before + count):
            # One after the other: those that start at once on one machine may choose the same ports.
            self.nodes.append(Node(self._folder / f"node{number}.log", *options, environment=self.environment))
            self._wait(self.nodes[-1])
        return self.nodes[before:]

    def close(self) -> None:
        """End all nodes, the head last."""
        for node in [*self.nodes, self.head]:
            node.close()
        shutil.rmtree(self._files, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, node: Node) -> None:
        until = time.monotonic() + _START_SECONDS
        while "Ray runtime started" not in node.said:
            assert time.monotonic() < until and node._process.poll() is None, node.said
            time.sleep(0.1)


def _name(process: psutil.Process) -> str:
    try:
        return (process.cmdline() or [""])[0]
    except psutil.Error:
        return ""
