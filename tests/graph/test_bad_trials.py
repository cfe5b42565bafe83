"""Trials that come to nothing in a real search: killed, out of memory, not finite. The search goes on without them."""

import signal
import sys
from collections.abc import Callable

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from graph.config import SearchConfig
from graph.session import SearchSession
from tests.worker_processes import workers_at_work
from tools.errors import InputError
from tools.requests import Survey
from tools.workers import WorkerError

ConfigOf = Callable[..., SearchConfig]
HEADROOM = 24 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="the address space of another process is limited by Linux alone")
def test_a_killed_worker_and_one_without_memory_cost_their_trials(config_of: ConfigOf) -> None:
    """Trial 1 dies by signal 9, as the kernel does it; trial 2 gets no more address space than it has."""
    recipe = {"warmup_steps": 2, "training_steps": 4, "batch_size": 256, "micro_batch_size": 256}
    session = SearchSession.start(config_of(trials=3, llm_share=0.0, workers="processes:1", recipe=recipe))
    hurt, told = set[int](), list[str]()
    for event in session.stream():
        if event.kind == "evaluation":
            told.append(str(event))
        # Memory that a step frees is kept, so the one that must lack some is bounded before its first step.
        due = {1: "growing", 2: "cutting"}
        if event.kind == "progress" and event.trial in {1, 2} - hurt and event.phase == due[event.trial]:
            (worker,) = workers_at_work()
            hurt.add(event.trial)
            if event.trial == 1:
                worker.send_signal(signal.SIGKILL)
            else:
                worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms + HEADROOM,) * 2)
    trials = session.trials()
    assert session.record.status == "finished" and [trial.succeeded for trial in trials] == [True, False, False]
    failures = [trial.measurement.failure for trial in trials if trial.measurement and trial.measurement.failure]
    assert [failure.kind for failure in failures] == ["out_of_memory", "out_of_memory"]
    assert "signal 9" in failures[0].message and "micro_batch_size" in failures[1].message
    assert failures[0].message in told[1] and failures[1].message in told[2]
    assert all("\n" not in words for words in told)
    assert session.best().number == 0
    # A failure may have been the machine's: no other search takes it for the design's.
    assert all(str(trial.evaluation_key).endswith(f"/{trial.name}") for trial in trials[1:])


def spoil_with_nan(session: SearchSession) -> dict[str, torch.Tensor]:
    """Put one NaN into the weights that trials start from; what was there."""
    file = Survey.model_validate_json(session.folder.survey.read_text()).folder / "warm_state" / "weights.safetensors"
    # Copies: what is loaded is the file itself, mapped.
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    spoilt = {name: tensor.clone() for name, tensor in tensors.items()}
    next(iter(spoilt.values())).view(-1)[0] = float("nan")
    save_file(spoilt, file)
    return tensors


def test_a_loss_that_is_not_finite_costs_its_trial(config_of: ConfigOf) -> None:
    session, told = SearchSession.start(config_of(trials=3, llm_share=0.0)), list[str]()
    for event in session.stream():
        if event.kind == "proposal" and event.trial == 1:
            before = spoil_with_nan(session)
        if event.kind == "evaluation":
            told.append(str(event))
            if event.trial == 1:
                survey = Survey.model_validate_json(session.folder.survey.read_text())
                save_file(before, survey.folder / "warm_state" / "weights.safetensors")
    trials = session.trials()
    assert session.record.status == "finished" and [trial.succeeded for trial in trials] == [True, False, True]
    failure = trials[1].measurement.failure if trials[1].measurement else None
    assert failure is not None and failure.kind == "not_finite" and "nan" in failure.message
    assert "try a lower learning_rate" in told[1] and "\n" not in told[1]


def test_where_nothing_is_finite_one_sentence_says_so(config_of: ConfigOf) -> None:
    recipe = {"warmup_steps": 1, "training_steps": 2, "batch_size": 2, "micro_batch_size": 1, "learning_rate": 1e30}
    session = SearchSession.start(config_of(trials=2, llm_share=0.0, recipe=recipe))
    reason = r"the .* was .* at step 1 .*try a lower learning_rate"
    with pytest.raises(InputError, match=rf"No design could be grown \({reason}\)"):
        session.run()
    with pytest.raises(WorkerError, match=reason):
        SearchSession.start(config_of(llm_share=0.0, recipe={**recipe, "warmup_steps": 3})).run()
