"""Pretraining that something stops: restarts are bit-exact, failures are results, a checkpoint stays whole."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.tools.pretraining_runs import CODE, drops_of, interrupt, losses_of
from tools.errors import InputError
from tools.pretrain import LOCK_FILE, PretrainResult, pretrain
from tools.requests import Progress


def test_a_finished_run_is_not_paid_again(pretraining_request: Any) -> None:
    request = pretraining_request()
    first = pretrain(request)
    started = time.monotonic()
    assert pretrain(request) == first
    assert time.monotonic() - started < 1.0


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"second_order_update": False},
        {"saliency": "second"},
        {"saliency": "magnitude"},
        {"compact_every": 2},
        {"update_steps": 3},
        {"update_steps": 2, "compact_every": 3, "second_order_update": False},
        {"saliency_decay": 0.9, "moment_decay": 0.8, "moment_tokens": 4, "refresh_removals": 8},
        {"learning_rate_schedule": "wsd", "activation_checkpointing": True},
        {"distillation": 0.5},
        {"precision": "bfloat16", "compact_every": 2},
    ],
)
def test_going_on_from_a_checkpoint_is_bit_exact(pretraining_request: Any, recipe: dict[str, Any]) -> None:
    """A run killed in the middle of its drops gives the same losses, drops and weights as an undisturbed one."""
    whole = pretraining_request(output="whole", recipe=recipe)
    expected = pretrain(whole)
    broken = pretraining_request(output="broken", recipe=recipe)
    interrupt(broken, 7)
    assert (broken.output / "checkpoint").is_dir()
    steps: list[int] = []
    result = pretrain(broken, lambda progress: steps.append(progress.done) if progress.phase == "growing" else None)
    assert steps[0] == 5, "nothing before the checkpoint is trained again"
    assert losses_of(broken.output) == losses_of(whole.output)
    assert drops_of(broken.output) == drops_of(whole.output)
    assert (result.loss, result.architecture) == (expected.loss, expected.architecture)
    one, other = (load_file(output / "model" / "model.safetensors") for output in (whole.output, broken.output))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_trained_is_not_trained_again_where_measuring_fails(pretraining_request: Any) -> None:
    request = pretraining_request()
    interrupt(request, 0, "measuring, grown")
    told: list[Progress] = []
    result = pretrain(request, told.append)
    assert "growing" not in {progress.phase for progress in told}
    whole = pretrain(pretraining_request(output="whole"))
    assert (result.loss, result.architecture, result.events) == (whole.loss, whole.architecture, whole.events)


def test_when_fewer_tokens_are_read_does_not_hang_on_restarts(pretraining_request: Any) -> None:
    """Killed after its widest layer has shrunk, before enough is known of it to read only some of the steps."""
    whole = pretraining_request(output="whole", tokens=60 * 32)
    pretrain(whole)
    broken = pretraining_request(output="broken", tokens=60 * 32)
    interrupt(broken, 14)
    pretrain(broken)
    assert drops_of(broken.output) == drops_of(whole.output)
    assert losses_of(broken.output) == losses_of(whole.output)


def test_another_config_is_refused(pretraining_request: Any) -> None:
    pretrain(pretraining_request())
    with pytest.raises(InputError, match=r"begun with other settings \(seed was 0 and is 1\)"):
        pretrain(pretraining_request(seed=1))


def test_how_often_it_is_written_down_may_change_on_the_way(pretraining_request: Any) -> None:
    interrupt(pretraining_request(), 7)
    told: list[Progress] = []
    pretrain(pretraining_request(checkpoint_steps=100, validation_steps=6), told.append)
    assert min(progress.done for progress in told if progress.phase == "growing") == 5


def test_the_seconds_of_all_sessions_count(pretraining_request: Any) -> None:
    request = pretraining_request()
    interrupt(request, 7)
    notes = request.output / "checkpoint" / "notes.json"
    assert 0 < json.loads(notes.read_text())["seconds"] < 60
    notes.write_text('{"seconds": 1000}')
    assert 1000 < pretrain(request).seconds < 1060


def test_a_loss_that_is_not_finite_is_a_result(pretraining_request: Any) -> None:
    request = pretraining_request(recipe={"learning_rate": 1e30, "gradient_clipping": 1e30})
    result = pretrain(request)
    assert result.status == "failed" and result.failure is not None and result.failure.kind == "not_finite"
    assert result.model is None and not (request.output / "model").exists()


def test_a_killed_process_goes_on(pretraining_request: Any, tmp_path: Path) -> None:
    """kill -9 in the middle, a torn last line in the log included."""
    whole = pretraining_request(output="whole", tokens=60 * 32)
    expected = pretrain(whole)
    request = pretraining_request(tokens=60 * 32)
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, request.model_dump_json()], env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    log = request.output / "log.jsonl"
    while process.poll() is None and not (log.is_file() and len(log.read_text().splitlines()) > 20):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with log.open("a") as file:
        file.write('{"step": 99, "lo')
    result = pretrain(request)
    assert (result.loss, result.tokens) == (expected.loss, expected.tokens)
    assert losses_of(request.output) == losses_of(whole.output)


def test_a_second_process_in_the_same_output_folder_is_refused(pretraining_request: Any) -> None:
    request = pretraining_request(tokens=60 * 32)
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, request.model_dump_json()], env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    log = request.output / "log.jsonl"
    while process.poll() is None and not log.is_file():
        time.sleep(0.02)
    with pytest.raises(InputError, match="Another process trains in"):
        pretrain(request)
    assert process.wait(timeout=120) == 0
    assert len(losses_of(request.output)) == request.steps, "the first did not notice"
    assert pretrain(request).status == "finished"


SCARCE = """
import resource, sys
from tools.pretrain import PretrainRequest, pretrain

def starve(progress):
    if progress.phase == "measuring, source":
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + 40 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

result = pretrain(PretrainRequest.model_validate_json(sys.argv[1]), starve)
print(result.model_dump_json())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the address space is limited by a call of Linux")
def test_a_lack_of_memory_is_a_result_with_the_peak_and_advice(pretraining_request: Any) -> None:
    recipe = {"batch_size": 2048, "micro_batch_size": 2048, "warmup_steps": 1}
    request = pretraining_request(recipe=recipe, tokens=3 * 2048 * 16, drops=1)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCARCE, request.model_dump_json()], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    failure = json.loads(done.stdout.splitlines()[-1])["failure"]
    assert failure["kind"] == "out_of_memory"
    assert "MB" in failure["message"] and "micro_batch_size" in failure["message"]


def test_a_full_disk_leaves_the_old_checkpoint(pretraining_request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second checkpoint cannot be written: the first one is whole, and the run goes on from it."""
    import tools.pretraining.growth_checkpoint as growth_checkpoint

    whole = pretraining_request(output="whole")
    expected = pretrain(whole)
    request, calls = pretraining_request(), []
    save = growth_checkpoint.save_file

    def full(tensors: Any, path: Path) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        save(tensors, path)

    monkeypatch.setattr(growth_checkpoint, "save_file", full)
    with pytest.raises(InputError, match="No space left on device"):
        pretrain(request)
    assert (request.output / "checkpoint" / "growth.json").is_file()
    monkeypatch.undo()
    assert pretrain(request).loss == expected.loss


def test_a_checkpoint_that_was_being_replaced_is_gone_on_with(pretraining_request: Any) -> None:
    request = pretraining_request()
    interrupt(request, 7)
    (request.output / "checkpoint").rename(request.output / ".checkpoint.0123abcd.old")
    (request.output / ".checkpoint.89abcdef.partial").mkdir()
    told: list[Progress] = []
    pretrain(request, told.append)
    assert min(progress.done for progress in told if progress.phase == "growing") == 5
    assert [path.name for path in request.output.iterdir() if path.name.startswith(".")] == [LOCK_FILE]


def test_a_damaged_checkpoint_is_told(pretraining_request: Any) -> None:
    request = pretraining_request()
    interrupt(request, 7)
    files = [path for path in (request.output / "checkpoint").rglob("*") if path.is_file()]
    assert len(files) == 6
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError, match="is damaged: remove the folder") as caught:
            pretrain(request)
        assert "\n" not in str(caught.value)
        path.write_bytes(content)
    shutil.rmtree(request.output / "checkpoint")
    assert isinstance(pretrain(request), PretrainResult)
