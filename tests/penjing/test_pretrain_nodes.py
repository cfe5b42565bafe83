"""`penjing pretrain --nnodes`: two nodes, as two launchers on loopback, do what one process does; they end together."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from graph.config import SearchConfig
from graph.session import SearchSession
from penjing.commands import app
from tests.chroma_server import free_port
from tools.sources import resolve_source

STEPS = 60
PENJING = [sys.executable, "-m", "penjing.main"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def words(sources: dict[str, Path], corpus: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A pretraining of 60 steps on a tiny model, with a checkpoint after every second one."""
    for key, value in {"PENJING_CACHE": str(cache), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}.items():
        monkeypatch.setenv(key, value)
    sets = {
        "recipe.warmup_steps": 3,
        "recipe.batch_size": 4,
        "recipe.micro_batch_size": 1,
        "data.block_length": 16,
        "data.validation_tokens": 256,
        "checkpoint_steps": 2,
    }
    assignments = [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
    plain = ["--source", str(sources["llama-tied"]), "--corpus", str(corpus), "--tokens", str(64 * STEPS)]
    size = ["--target-parameters", "85k", "--ffn-multiple", "8", "--hidden-multiple", "4"]
    return ["pretrain", *plain, *size, *assignments]


def started(words: list[str], output: Path, *options: str) -> "subprocess.Popen[str]":
    command = [*PENJING, *words, "--output", str(output), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def two_nodes(words: list[str], output: Path) -> "list[subprocess.Popen[str]]":
    endpoint = f"127.0.0.1:{free_port()}"
    return [
        started(words, output, "--nnodes", "2", "--rdzv-endpoint", endpoint, "--node-rank", str(node))
        for node in range(2)
    ]


def steps_of(output: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "event" not in line]


def ranks_of(launcher: "subprocess.Popen[str]") -> list[int]:
    rows = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.split("\n")
    return [int(row.split()[0]) for row in rows if row.split()[1:] == [str(launcher.pid)]]


@pytest.mark.slow
def test_two_nodes_do_what_one_process_does_also_when_a_rank_dies_on_the_way(words: list[str], tmp_path: Path) -> None:
    alone = CliRunner().invoke(app, [*words, "--output", str(tmp_path / "alone"), "--json"])
    assert alone.exit_code == 0, alone.output
    nodes = two_nodes(words, tmp_path / "nodes")
    until = time.monotonic() + 150
    while not (tmp_path / "nodes" / "checkpoint").is_dir():
        assert time.monotonic() < until and nodes[0].poll() is None, nodes[0].communicate()
        time.sleep(0.02)
    (victim,) = ranks_of(nodes[1])
    os.kill(victim, signal.SIGKILL)
    said = [node.communicate(timeout=100)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [1, 1], said
    told = [[line for line in text.splitlines() if line.startswith("penjing: ")] for text in said]
    on = "and all ranks were stopped; the same command on every node goes on from the last checkpoint."
    assert told[1] == [f"penjing: Rank 1 was killed by signal 9, {on}"]
    assert told[0] == [f"penjing: A rank of another node ended, {on}"]
    assert "Traceback" not in "".join(said)
    before = steps_of(tmp_path / "nodes")
    assert 2 <= len(before) < STEPS

    nodes = two_nodes([*words, "--json"], tmp_path / "nodes")
    said = [node.communicate(timeout=200) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert [line for line in said[0][1].splitlines() if line.startswith("node 1: torchrun --nnodes 2 ")]
    assert said[1][0] == "", "the first rank speaks for all"
    one, both = steps_of(tmp_path / "alone"), steps_of(tmp_path / "nodes")
    assert [line["step"] for line in one] == [line["step"] for line in both] == list(range(1, STEPS + 1))
    assert both[:2] == before[:2], "what was done before the first checkpoint is not done again"
    # Sums are rounded in another order, and what the repair makes of that grows.
    for steps, tolerance in ((4, 1e-5), (12, 5e-4)):
        losses = [[line["loss"] for line in lines[:steps]] for lines in (one, both)]
        np.testing.assert_allclose(losses[1], losses[0], rtol=tolerance)
    results = [json.loads(text) for text in (alone.stdout, said[0][0])]
    assert results[0]["architecture"] == results[1]["architecture"]
    assert results[1]["loss"] == pytest.approx(results[0]["loss"], rel=1e-2)


@pytest.mark.slow
def test_two_ranks_of_one_node_and_one_sentence_for_bad_input(words: list[str], tmp_path: Path) -> None:
    process = started(words, tmp_path / "out", "--nnodes", "1", "--nproc-per-node", "2", "--json")
    said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert json.loads(said[0])["status"] == "finished"
    wrong = ("--set", "recipe.batch_size=5")
    process = started(words, tmp_path / "wrong", "--nnodes", "1", "--nproc-per-node", "2", *wrong)
    said = process.communicate(timeout=200)
    sentence = "A batch of 5 blocks cannot be shared evenly by 2 ranks: set recipe.batch_size to a multiple of 2."
    assert process.returncode == 2 and said[1].splitlines()[-1] == f"penjing: {sentence}"
    assert said[1].count(sentence) == 1 and "Traceback" not in said[1]


def test_ranks_end_with_a_killed_launcher(words: list[str], tmp_path: Path) -> None:
    launcher = started(words, tmp_path / "out", "--nnodes", "1", "--nproc-per-node", "2")
    until = time.monotonic() + 150
    while not (tmp_path / "out" / "checkpoint").is_dir():
        assert time.monotonic() < until and launcher.poll() is None, launcher.communicate()
        time.sleep(0.02)
    ranks = [psutil.Process(rank) for rank in ranks_of(launcher)]
    assert len(ranks) == 2
    launcher.kill()
    launcher.communicate()
    assert psutil.wait_procs(ranks, timeout=20)[1] == []
    assert 2 <= len(steps_of(tmp_path / "out")) < STEPS, "they would have gone on"


def test_what_would_be_started_is_printed(words: list[str], sources: dict[str, Path], tmp_path: Path) -> None:
    design = tmp_path / "mine.json"
    design.write_text(resolve_source(str(sources["llama-tied"])).architecture.model_dump_json())
    chosen = [word for word in words if word not in ("--target-parameters", "85k")]
    options = ["--nnodes", "2", "--nproc-per-node", "8", "--rdzv-endpoint", "node0:29400", "--print-only"]
    output = str(tmp_path / "an output")
    done = CliRunner().invoke(app, [*chosen, "--design", str(design), *options, "--output", output, "--seed", "3"])
    assert done.exit_code == 0, done.output
    first, second = done.stdout.splitlines()
    assert first.startswith("node 0: torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend static")
    assert second == first.replace("node 0", "node 1").replace("--node-rank 0", "--node-rank 1")
    assert f"--output '{output}' --design '{output}.design.json'" in first and "--seed 3" in first
    assert "--set recipe.batch_size=4" in first and "print-only" not in first and "--nnodes 2" in first
    assert not Path(output).exists() and not Path(f"{output}.design.json").exists()


def test_the_design_of_a_trial_is_grown_for_longer(
    config_of: Callable[..., SearchConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = SearchSession.start(config_of(trials=1))
    trial = session.run()
    monkeypatch.setenv("PENJING_HOME", str(session.config.home))
    monkeypatch.setenv("PENJING_CACHE", str(session.config.cache))
    sets = ["recipe.warmup_steps=2", "recipe.batch_size=2", "recipe.micro_batch_size=1", "data.block_length=32"]
    words = [*(part for one in sets for part in ("--set", one)), "--set", "data.validation_tokens=256"]
    command = ["pretrain", "--design", f"{session.run_id}/0", "--tokens", "1280", *words]
    done = CliRunner().invoke(app, [*command, "--output", str(tmp_path / "grown"), "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["architecture"] == trial.architecture.model_dump(mode="json") and result["tokens"] == 1280
    config = json.loads((tmp_path / "grown" / "config.json").read_text())
    assert (config["source"], config["corpus"]) == (session.config.source, session.config.corpus)
    printed = CliRunner().invoke(app, [*command, "--output", str(tmp_path / "more"), "--print-only"])
    assert f"--design {tmp_path / 'more'}.design.json" in printed.stdout and "latest" not in printed.stdout
    for wrong, sentence in ((f"{session.run_id}/7", "has no trial 7"), ("nobody/0", "no run 'nobody'")):
        done = CliRunner().invoke(app, ["pretrain", "--design", wrong])
        assert done.exit_code == 2 and sentence in done.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--nnodes", "2"), "need --rdzv-endpoint HOST:PORT"),
        (("--nnodes", "2", "--rdzv-endpoint", "host:port"), "must be HOST:PORT"),
        (("--nnodes", "2", "--rdzv-endpoint", "host", "--node-rank", "2"), "nodes count from 0"),
    ],
)
def test_what_does_not_go_together(words: list[str], tmp_path: Path, options: tuple[str, ...], sentence: str) -> None:
    done = CliRunner().invoke(app, [*words, "--output", str(tmp_path / "out"), "--print-only", *options])
    assert done.exit_code == 2 and sentence in done.stderr and "Traceback" not in done.stderr
