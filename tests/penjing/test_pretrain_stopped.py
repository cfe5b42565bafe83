"""`penjing pretrain` that is told to end: it ends between two steps, and no step is taken twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from penjing import termination
from penjing.commands import app
from penjing.termination import orderly_end

STEPS = 220
PENJING = [sys.executable, "-m", "penjing.main", "pretrain"]


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """That SIGTERM came is not remembered for other tests."""
    monkeypatch.setattr(termination, "_came", False)


@pytest.fixture
def words(sources: dict[str, Path], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """a pretraining of 220 steps on a tiny model, with a checkpoint after each 200th."""
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    sets = ["recipe.warmup_steps=3", "recipe.batch_size=2", "recipe.micro_batch_size=1", "data.block_length=16"]
    assignments = [part for one in [*sets, "data.validation_tokens=256"] for part in ("--set", one)]
    plain = ["--source", str(sources["llama-tied"]), "--corpus", str(corpus), "--tokens", str(STEPS * 32)]
    return [
        *PENJING,
        *plain,
        "--target-parameters",
        "85k",
        "--ffn-multiple",
        "8",
        "--hidden-multiple",
        "4",
        *assignments,
    ]


def steps_of(output: Path) -> list[int]:
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if "event" not in line]


def interrupted(command: list[str], output: Path, steps: int, kind: signal.Signals) -> tuple[int, str]:
    """The exit code and stderr of a process that gets a signal when it has taken so many steps."""
    process = subprocess.Popen([*command, "--output", str(output)], stderr=subprocess.PIPE, text=True)
    log = output / "log.jsonl"
    while process.poll() is None and not (log.is_file() and len(steps_of(output)) >= steps):
        time.sleep(0.02)
    process.send_signal(kind)
    _, errors = process.communicate(timeout=100)
    return process.returncode, errors


def finished(command: list[str], output: Path) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*command[len(PENJING) - 1 :], "--output", str(output), "--json"])
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def test_it_goes_on_where_it_was_told_to_end(words: list[str], tmp_path: Path) -> None:
    taken = 0
    for kind, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        found, said = interrupted(words, tmp_path / "stopped", taken + 20, kind)
        assert found == code and "Traceback" not in said, said
        assert "Training stops after this step" in said
        taken = steps_of(tmp_path / "stopped")[-1]
        assert f"penjing: Interrupted after step {taken} of {STEPS}; the same command goes on from there." in said
    result = finished(words, tmp_path / "stopped")
    assert steps_of(tmp_path / "stopped") == list(range(1, STEPS + 1)), "each is taken once"
    whole = finished(words, tmp_path / "whole")
    assert {**result, "seconds": 0, "model": ""} == {**whole, "seconds": 0, "model": ""}


def test_before_the_first_checkpoint_there_is_nothing_to_go_on_from(words: list[str], tmp_path: Path) -> None:
    process = subprocess.Popen([*words, "--output", str(tmp_path / "out")], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None and process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert process.stderr.read().splitlines()[-1] == "penjing: Interrupted."


@pytest.mark.slow
def test_ranks_end_together(words: list[str], tmp_path: Path) -> None:
    ranks, taken = [*words, "--nnodes", "1", "--nproc-per-node", "2"], 0
    for kind, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        found, said = interrupted(ranks, tmp_path / "out", taken + 10, kind)
        assert found == code and "Traceback" not in said, said
        assert "Interrupted; the same command goes on from the last checkpoint." in said
        taken = steps_of(tmp_path / "out")[-1]
    last = [*ranks, "--output", str(tmp_path / "out"), "--json"]
    done = subprocess.run(last, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["status"] == "finished"
    assert steps_of(tmp_path / "out") == list(range(1, STEPS + 1))


def test_a_second_signal_ends_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), orderly_end("soon") as end:
        end.may_wait = True
        signal.raise_signal(signal.SIGTERM)
        assert end.asked and capfd.readouterr().err == "\nsoon\n"
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    with orderly_end("soon", patient=True) as end:
        end.may_wait = True
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        assert end.asked and capfd.readouterr().err == "\nsoon\n"


def test_nothing_waits_for_a_step_where_there_is_none() -> None:
    with pytest.raises(KeyboardInterrupt), orderly_end("soon"):
        signal.raise_signal(signal.SIGINT)


def test_a_background_job_of_a_shell_heeds_no_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with orderly_end("soon") as end:
            end.may_wait = True
            os.kill(os.getpid(), signal.SIGINT)
            assert not end.asked
            signal.raise_signal(signal.SIGTERM)
            assert end.asked
    finally:
        signal.signal(signal.SIGINT, before)
