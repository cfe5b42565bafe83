"""Processes are really started and really killed.

Every process of a test holds the writing end of one pipe; its reading end ends only when all of them are gone. That
is exact, quick, and not fooled by zombies.
"""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHILD = "{lifeline}\nimport os, time\nos.write({pipe}, b'r')\ntime.sleep(60)"
LIFELINE = "from tools.lifeline import die_with_parent; die_with_parent()"
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {child!r}], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                         pass_fds=({pipe},))
print(child.pid, flush=True)
time.sleep(60)
"""


def ended(reading: int, seconds: float) -> bool:
    """Whether nobody holds the pipe's other end any more, within a time."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select([reading], [], [], left)[0] and not os.read(reading, 1):
            return True
    return False


def start_parent(lifeline: str) -> tuple[subprocess.Popen[bytes], int, int]:
    """A parent with a child that sleeps; returns the parent, the child's id and the reading end of their pipe."""
    reading, writing = os.pipe()
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(child=CHILD.format(lifeline=lifeline, pipe=writing), pipe=writing)],
        stdout=subprocess.PIPE,
        pass_fds=(writing,),
        cwd=ROOT,
    )
    os.close(writing)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.stdout.close()
    assert os.read(reading, 1) == b"r"
    return parent, child, reading


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_child_dies_with_a_killed_parent(how: signal.Signals) -> None:
    parent, _, reading = start_parent(LIFELINE)
    parent.send_signal(how)
    parent.wait(20)
    assert ended(reading, 20)
    os.close(reading)


def test_without_a_lifeline_the_child_would_live_on() -> None:
    parent, child, reading = start_parent("")
    parent.kill()
    parent.wait(20)
    try:
        assert not ended(reading, 0.5)
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(reading)


def test_child_ends_by_itself_with_its_own_exit_code() -> None:
    code = f"{LIFELINE}\nimport sys\nsys.exit(7)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as child:
        assert child.wait(20) == 7
        assert child.stderr is not None
        assert child.stderr.read() == b""
