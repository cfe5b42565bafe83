"""A search on a cluster of Ray that runs: it joins it, outlives its nodes, and leaves it as it was."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from graph.session import SearchSession
from tests.ray_nodes import RayNodes

pytest.importorskip("ray", reason="Ray is not installed: uv pip install -e '.[ray]'")
# A node takes ten seconds to start.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PENJING = [sys.executable, "-m", "penjing.main"]
AGAIN = "trial 0: given to another worker: its own or the node of that died"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNodes]:
    """A head without cores, which asks for a token as Ray's heads do by default."""
    with RayNodes(tmp_path_factory.mktemp("ray")) as nodes:
        yield nodes


@pytest.fixture
def environment(cluster: RayNodes) -> dict[str, str]:
    """The token is there, that Ray is to use it is not said."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PENJING_"))}
    token = cluster.environment["RAY_AUTH_TOKEN_PATH"]
    return {**plain, "RAY_AUTH_TOKEN_PATH": token, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def words(cluster: RayNodes, settings_of: Callable[..., dict[str, Any]], tmp_path: Path) -> list[str]:
    """A search of two designs without a chat model, whose trials take some seconds each."""
    recipe = {"warmup_steps": 2, "training_steps": 100, "batch_size": 2, "micro_batch_size": 1}
    plain = settings_of(tmp_path, trials=2, llm_share=0.0, workers=f"ray:{cluster.address}", recipe=recipe)
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(plain))
    return ["search", str(file)]


def carried_out(
    words: list[str], environment: dict[str, str], at: str = "", act: Callable[[], None] = lambda: None
) -> tuple[int, list[str]]:
    """Exit code and lines of the command; `act` is called once, when it has printed the line `at`."""
    with subprocess.Popen(
        [*PENJING, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        lines = list[str]()
        for line in process.stdout:
            if line.rstrip("\n") == at and at not in lines:
                act()
            lines.append(line.rstrip("\n"))
    return process.returncode, lines


def test_a_trial_outlives_its_node_and_the_cluster_the_search(
    cluster: RayNodes, words: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    nodes = cluster.add(2)

    def lose_its_node() -> None:
        busy = [node for node in nodes if node.works()]
        assert len(busy) == 1
        busy[0].kill()
        nodes.remove(busy[0])

    code, lines = carried_out(words, environment, "trial 0: growing", lose_its_node)
    assert code == 0, lines
    assert len(nodes) == 1 and lines.count(AGAIN) == 1
    after = lines[lines.index(AGAIN) :]
    assert "trial 0: cutting" in after and "trial 0: growing" in after
    assert "Traceback" not in "".join(lines)
    session = SearchSession.open("latest", tmp_path / "home")
    trials = session.trials()
    assert [trial.number for trial in trials] == [0, 1]
    assert all(trial.measurement is not None and trial.measurement.succeeded for trial in trials)
    assert len(session._records.evaluations(session.run_id)) == 2, "the lost attempt left nothing"
    assert cluster.head.runs and nodes[0].runs
    nodes[0].close()


def test_the_last_node_is_lost_and_another_one_comes(
    cluster: RayNodes, words: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    (node,) = cluster.add(1)
    code, lines = carried_out(words, environment, "trial 0: growing", node.kill)
    assert code == 2 and lines.count(AGAIN) == 1, lines
    (sentence,) = [line for line in lines if line.startswith("penjing: ")]
    assert sentence.startswith("penjing: No node of the Ray cluster has 1 cores and 0 GPUs for a trial")
    assert "Traceback" not in "".join(lines)
    cluster.add(1)
    code, lines = carried_out(["resume", "latest"], {**environment, "PENJING_HOME": str(tmp_path / "home")})
    assert code == 0, lines
    session = SearchSession.open("latest", tmp_path / "home")
    assert [trial.number for trial in session.trials()] == [0, 1]
    assert len(session._records.evaluations(session.run_id)) == 2


def test_without_the_token(cluster: RayNodes, words: list[str], environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "other").write_text("0" * 64)
    code, lines = carried_out(words, {**environment, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "other")})
    assert code == 2, lines
    assert [line for line in lines if line.startswith("penjing: ")] == [
        f"penjing: workers=ray:{cluster.address} asks for another token: put the one of its head node, "
        "~/.ray/auth_token, into the same file here."
    ]
    assert "Traceback" not in "".join(lines)


def test_a_cluster_of_its_own_where_another_one_runs(cluster: RayNodes, environment: dict[str, str]) -> None:
    code = "from tools.workers.ray_cluster import RayCluster as C; print(C(None).connect().nodes()[0]['Resources'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "RAY_ADDRESS": cluster.address},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'CPU'" in done.stdout, "the head of the other one has none"
    assert cluster.head.runs
