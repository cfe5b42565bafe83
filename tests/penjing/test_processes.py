"""The real command in real processes: killed, interrupted, shadowed; and what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from graph.config import SearchConfig
from graph.folder import Home
from graph.session import SearchSession
from memory.records import Records
from tests.fake_openai import FakeOpenAI

ROOT = Path(__file__).parents[2]
PENJING = [sys.executable, "-m", "penjing.main"]


@pytest.fixture
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A home of its own and an endpoint on loopback; with the parameter `servers` all is kept on these."""
    elsewhere: dict[str, str] = {}
    if getattr(request, "param", "") == "servers":
        database = request.getfixturevalue("postgresql").database()
        elsewhere = {
            "PENJING_RECORDS": database,
            "PENJING_CHECKPOINTS": database,
            "PENJING_VECTORS": request.getfixturevalue("chroma_server"),
            "PENJING_ARTIFACTS": f"file://{tmp_path}/artifacts",
        }
    with FakeOpenAI(seed=4, models=("fake",)) as server:
        yield {
            **os.environ,
            **elsewhere,
            "PENJING_HOME": str(tmp_path / "home"),
            "PENJING_CACHE": str(tmp_path / "cache"),
            "OPENAI_BASE_URL": server.url,
            "OPENAI_API_KEY": "sk-any",
            "OMP_NUM_THREADS": "1",
        }


@pytest.fixture
def config_file(settings_of: Callable[..., dict[str, Any]], tmp_path: Path) -> Path:
    """Trials in subprocesses that take some seconds each."""
    recipe = {"warmup_steps": 2, "training_steps": 60, "batch_size": 2, "micro_batch_size": 1}
    plain = settings_of(tmp_path, trials=2, workers="processes", recipe=recipe)
    del plain["home"], plain["cache"]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


def started(command: list[str], environment: dict[str, str], moment: str) -> "subprocess.Popen[str]":
    """A process group of its own, which has come so far that it says `moment`."""
    process = subprocess.Popen(
        [*PENJING, *command],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if moment in line:
            break
    return process


def living_descendants(process_id: int) -> list[int]:
    """Processes whose ancestor is `process_id`, also when it is gone: they keep its process group."""
    found = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in found.splitlines()]
    group = os.getpgid(0)
    return [int(pid) for pid, pgid, stat in rows if int(pgid) == process_id != group and not stat.startswith("Z")]


def evaluations(environment: dict[str, str]) -> dict[int, tuple[str, str]]:
    """Finished trials of the only run: number -> evaluation key and time of the measurement file."""
    home = Path(environment["PENJING_HOME"])
    with Records.open(Home(home).records) as records:
        run = records.run("latest")
        finished = [trial for trial in records.trials(run.id) if trial.evaluation_key is not None]
    files = {trial.number: home / "evaluations" / str(trial.evaluation_key) / "measurement.json" for trial in finished}
    return {number: (path.parent.name, str(path.stat().st_mtime_ns)) for number, path in files.items()}


@pytest.mark.parametrize("environment", ["local", pytest.param("servers", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize("moment", ["trial 1: growing", pytest.param("self-evolution", marks=pytest.mark.slow)])
def test_resume_after_kill_repeats_no_finished_evaluation(
    config_file: Path, environment: dict[str, str], moment: str
) -> None:
    process = started(["search", str(config_file)], environment, moment)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while (left := living_descendants(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, "a worker outlived the killed search"
    before = evaluations(environment)
    assert 0 in before
    shown = subprocess.run(
        [*PENJING, "show", "--json"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(shown)["status"] == "interrupted"
    done = subprocess.run(
        [*PENJING, "resume", "latest", "--json"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["status"] == "finished" and [trial["number"] for trial in document["trials"]] == [0, 1]
    after = evaluations(environment)
    assert {number: after[number] for number in before} == before, "a finished evaluation was done again"


def test_interrupt_says_how_to_go_on_and_leaves_nothing_behind(config_file: Path, environment: dict[str, str]) -> None:
    """A search that is interrupted, and its resumption that is told to end: each trial is written down at its step."""
    steps = [0]
    for command, kind, code in (
        (["search", str(config_file)], signal.SIGINT, 130),
        (["resume"], signal.SIGTERM, 143),
    ):
        process = started(command, environment, "trial 0: growing")
        # To all its processes, as a terminal sends Ctrl-C and a scheduler SIGTERM.
        os.killpg(process.pid, kind)
        assert process.stderr is not None
        rest = process.stderr.read()
        assert process.wait(timeout=20) == code
        assert "penjing resume " in rest and "Traceback" not in rest
        assert "ends after this training step, and writes down where it is" in rest
        assert not living_descendants(process.pid)
        (left,) = Path(environment["PENJING_HOME"]).glob("evaluations/*/checkpoint/training/state.json")
        steps.append(json.loads(left.read_text())["step"])
        assert steps[-1] > steps[-2], "it went on from there"


def test_another_package_in_the_place_of_ours(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "elsewhere" / "agents").mkdir(parents=True)
    (tmp_path / "elsewhere" / "agents" / "__init__.py").write_text("")
    shadowed = {**environment, "PYTHONPATH": str(tmp_path / "elsewhere")}
    done = subprocess.run([*PENJING, "runs"], env=shadowed, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "Another package named 'agents'" in done.stderr


@pytest.mark.parametrize("statement", ["import penjing", "import penjing.commands; penjing.commands.app(['--help'])"])
def test_light_imports(statement: str) -> None:
    program = (
        f"import sys\ntry:\n    {statement}\nexcept SystemExit:\n    pass\nprint(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "langgraph", "langchain_core", "chromadb", "sqlmodel", "matplotlib", "openai"}
    assert not heavy & set(json.loads(done.stderr.replace("'", '"')))


def test_shell_completion(environment: dict[str, str]) -> None:
    shell = {**environment, "_PENJING_COMPLETE": "complete_bash", "COMP_WORDS": "penjing re", "COMP_CWORD": "1"}
    program = "import sys; sys.argv[0] = 'penjing'; from penjing.main import main; main()"
    done = subprocess.run([sys.executable, "-c", program], env=shell, capture_output=True, text=True, check=False)
    assert "resume" in done.stdout


@pytest.mark.slow
def test_a_full_disk_loses_nothing(config_file: Path, environment: dict[str, str]) -> None:
    """A file-size limit stands for a disk that fills during a trial: the trial fails as such, the run is kept."""
    program = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, 250_000)); sys.argv = ['penjing', *sys.argv[1:]];"
        "runpy.run_module('penjing.main', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "search", str(config_file)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "The disk is full" in done.stderr
    resumed = subprocess.run([*PENJING, "resume"], env=environment, capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr


def test_a_second_resume_of_the_same_run_is_refused(
    settings_of: Callable[..., dict[str, Any]], environment: dict[str, str], tmp_path: Path
) -> None:
    recipe = {"warmup_steps": 2, "training_steps": 200_000, "batch_size": 2, "micro_batch_size": 1}
    session = SearchSession.start(
        SearchConfig(
            **settings_of(
                tmp_path, trials=2, llm_share=0.0, recipe=recipe, home=environment["PENJING_HOME"], workers="local"
            )
        )
    )
    command = [*PENJING, "resume", session.run_id]
    first = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert first.stderr is not None
    for line in first.stderr:
        if "trial 0: growing" in line:
            break
    second = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 2
    (said,) = [line for line in second.stderr.splitlines() if line.startswith("penjing:")]
    assert "is being worked on by another process; wait for it or stop it first." in said
    assert json.loads(second.stdout) == {"error": said.removeprefix("penjing: "), "exit_code": 2}
    assert first.poll() is None and session.record.status == "running", "the first one does not notice"
    first.send_signal(signal.SIGTERM)
    assert "penjing resume " in first.stderr.read() and first.wait(timeout=30) == 143
    assert session.record.status == "interrupted"
