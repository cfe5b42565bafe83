"""Freed memory that is kept costs no page faults, and goes back to the system in the end."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROUNDS, MEGABYTES, PAGE = 8, 64, 4096
# In a process of its own: what earlier tests left in this one would be used again without a fault.
WORK = f"""
import resource
from contextlib import nullcontext
from pathlib import Path

import torch

from tools.freed_memory import freed_memory_kept


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])


def work():
    for _ in range({ROUNDS}):
        tensors = [torch.ones({MEGABYTES} * 2**18), torch.ones({MEGABYTES} * 2**18)]
        del tensors


at_first = resident()
with {{kind}}():
    work()
    # An aligned block does not fit into a freed one of its own size: the first rounds take fresh memory.
    before = faults()
    work()
    repeated = faults() - before
    held = resident() - at_first
print(repeated, held, resident() - at_first)
"""


def pages_of(kind: str) -> tuple[int, int, int]:
    """Pages faulted in by repeated work, held at the end of the block, and held after it."""
    code = WORK.format(kind=kind)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    faulted, held, left = (int(word) for word in done.stdout.split())
    return faulted, held, left


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep freed memory")
def test_repeated_work_faults_in_no_pages() -> None:
    both_tensors = 2 * MEGABYTES * 2**20 // PAGE
    faulted, held, left = pages_of("freed_memory_kept")
    assert faulted < 0.1 * both_tensors and held > 0.9 * both_tensors and left < 0.2 * both_tensors
    without, held, _ = pages_of("nullcontext")
    assert without > 0.9 * ROUNDS * both_tensors and held < 0.2 * both_tensors
