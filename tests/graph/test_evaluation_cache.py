"""What was paid once is not paid again: which settings make another evaluation, and searches that want the same one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from safetensors.numpy import load_file

from graph.alone import LOCK_FILE
from graph.config import SearchConfig
from graph.context import RunContext
from graph.session import SearchSession
from memory.records import Records
from tools.errors import InputError
from tools.requests import Survey
from tools.trial_folder import MODEL_FOLDER
from tools.workers import make_workers

ConfigOf = Callable[..., SearchConfig]


@pytest.fixture
def judged(config_of: ConfigOf, survey_cache: Path) -> ConfigOf:
    """Settings of searches without a chat model."""

    def make(**overrides: Any) -> SearchConfig:
        return config_of(**({"llm_share": 0.0, "trials": 1, "cache": survey_cache} | overrides))

    return make


def test_settings_that_decide_no_result_make_no_other_evaluation(judged: ConfigOf, tmp_path: Path) -> None:
    session = SearchSession.start(judged())
    session.run()
    survey, design = Survey.model_validate_json(session.folder.survey.read_text()), session.trials()[0].architecture
    (tmp_path / "prompts").mkdir()

    def key(**overrides: Any) -> str:
        config = judged(**overrides)
        with Records.open(tmp_path / "records.sqlite") as records:
            workers = make_workers("local", tmp_path / "logs")
            context = RunContext(run_id="any", config=config, records=records, workers=workers, emit=lambda _: None)
            context.survey = survey
            return context.trial_request(design).key

    same: list[dict[str, Any]] = [
        {"home": tmp_path / "elsewhere"},
        {"cache": tmp_path / "elsewhere"},
        {"workers": "processes"},
        {"name": "another"},
        {"budget": {"usd": 1.0}},
        {"prompt_dir": tmp_path / "prompts"},
        {"trials": 9, "keep_models": 1, "parallel": 2},
        {"chat_model": "openai:other", "llm_share": 1.0},
        {"search_seed": 5},
    ]
    assert {key(**overrides) for overrides in same} == {session.trials()[0].evaluation_key}
    others = [{"seed": 5}, {"recipe": {"warmup_steps": 2, "training_steps": 3}}]
    assert len({key(**overrides) for overrides in [*same, *others]}) == 3


def test_a_search_waits_for_another_one_that_pays(judged: ConfigOf) -> None:
    first = SearchSession.start(judged())
    first.run()
    key, home = first.trials()[0].evaluation_key, first.config.home
    second = SearchSession.start(judged(home=home.with_name("second")))
    (second.config.home / "evaluations" / str(key)).mkdir(parents=True)
    lock = FileLock(second.config.home / "evaluations" / str(key) / LOCK_FILE, thread_local=False)
    lock.acquire()
    phases = []
    for event in second.stream():
        if event.kind == "progress" and event.trial == 0:
            phases.append(event.phase)
            lock.release()
    assert "waiting for another search" in phases[0] and "growing" in phases
    assert not second.trials()[0].cached


def test_waiting_ends_with_the_wall_clock(judged: ConfigOf) -> None:
    first = SearchSession.start(judged())
    first.run()
    key, home = first.trials()[0].evaluation_key, first.config.home.with_name("second")
    second = SearchSession.start(judged(home=home, budget={"wall_clock_seconds": 3.0}))
    (home / "evaluations" / str(key)).mkdir(parents=True)
    with FileLock(home / "evaluations" / str(key) / LOCK_FILE), pytest.raises(InputError, match="wall_clock_seconds"):
        second.run()
    assert second.trials()[0].measurement is None


@pytest.mark.slow
def test_weights_that_two_exports_lack_are_grown_once(judged: ConfigOf, tmp_path: Path) -> None:
    session = SearchSession.start(judged())
    session.run()
    home, key = session.config.home, session.trials()[0].evaluation_key
    shutil.rmtree(home / "evaluations" / str(key) / MODEL_FOLDER)
    exports = [
        subprocess.Popen(
            [sys.executable, "-m", "penjing.main", "export", session.run_id, "0", str(tmp_path / name)],
            env={**os.environ, "PENJING_HOME": str(home), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("first", "second")
    ]
    said = [export.communicate(timeout=120)[1] for export in exports]
    assert [export.returncode for export in exports] == [0, 0], said
    assert sum("were not kept: growing it again" in errors for errors in said) == 1, said
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def test_times_of_another_machine_decide_nothing(judged: ConfigOf) -> None:
    first = SearchSession.start(judged(max_latency_ms=1000.0))
    first.run()
    with Records.open(first.config.home / "records.sqlite") as records:
        records.update_run(first.run_id, imported_at=datetime.now(UTC))
    second = SearchSession.start(judged(max_latency_ms=1000.0))
    second.run()
    (elsewhere,), (here,) = first.trials(), second.trials()
    assert not here.cached and here.loss == elsewhere.loss
    assert here.evaluation_key == f"{elsewhere.evaluation_key}/{here.name}", "the other one stays as it is"
