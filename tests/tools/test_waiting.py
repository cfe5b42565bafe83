"""Threads wait patiently in every process that computes, unless the user says otherwise."""

import os
import subprocess
import sys

import pytest

from tools.waiting import wait_patiently


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"GOMP_SPINCOUNT": "1000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
    ],
)
def test_a_users_own_word_counts(before: dict[str, str], after: dict[str, str]) -> None:
    environment = dict(before)
    wait_patiently(environment)
    assert environment == after


def test_benchmarks_wait_patiently_before_torch_is_there() -> None:
    code = "import os, sys, benchmarks; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    clean = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    run = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["1000", "False"]
