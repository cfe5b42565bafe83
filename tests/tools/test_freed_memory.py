"""Freed memory that is kept costs no page faults, and goes back to the system in the end."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep freed memory")
FIRST_ROUNDS, ROUNDS, MEGABYTES, PAGE = 24, 8, 64, 4096
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


def work(rounds):
    for _ in range(rounds):
        tensors = [torch.ones({MEGABYTES} * 2**18), torch.ones({MEGABYTES} * 2**18)]
        del tensors


at_first = resident()
with {{kind}}():
    work({FIRST_ROUNDS})
    # An aligned block need not fit into a freed one of its own size: the first rounds, up to nine, take fresh memory.
    before = faults()
    work({ROUNDS})
    repeated = faults() - before
    held = resident() - at_first
print(repeated, held, resident() - at_first)
"""


def pages_of(kind: str, **variables: str) -> tuple[int, int, int]:
    """Pages faulted in by repeated work, held at the end of the block, and held after it."""
    tuned = {name for name in os.environ if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"}
    environment = {name: value for name, value in os.environ.items() if name not in tuned} | variables
    command = [sys.executable, "-c", WORK.format(kind=kind)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env=environment)
    faulted, held, left = (int(word) for word in done.stdout.split())
    return faulted, held, left


@on_glibc
def test_repeated_work_faults_in_no_pages() -> None:
    both_tensors = 2 * MEGABYTES * 2**20 // PAGE
    faulted, held, left = pages_of("freed_memory_kept")
    assert faulted < 0.1 * both_tensors and held > 0.9 * both_tensors and left < 0.2 * both_tensors
    without, held, _ = pages_of("nullcontext")
    assert without > 0.9 * ROUNDS * both_tensors and held < 0.2 * both_tensors


@on_glibc
def test_whoever_tunes_glibc_is_left_alone() -> None:
    """A threshold that the user set keeps on giving large blocks back at once."""
    both_tensors = 2 * MEGABYTES * 2**20 // PAGE
    faulted, held, _ = pages_of("freed_memory_kept", MALLOC_MMAP_THRESHOLD_="1048576")
    assert faulted > 0.9 * ROUNDS * both_tensors and held < 0.2 * both_tensors
