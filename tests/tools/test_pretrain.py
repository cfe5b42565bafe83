"""Pruning-aware pretraining as a whole: every policy, restarts in the middle, bad input, failures as results."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tools.architecture import Architecture, LayerShape
from tools.errors import InputError
from tools.pretrain import PretrainRequest, PretrainResult, pretrain
from tools.pruning import pruner
from tools.requests import Progress
from tools.settings import DataSettings, Recipe, WidthSettings
from tools.sources import resolve_source

RECIPE = Recipe(warmup_steps=3, batch_size=2, micro_batch_size=1, drop_share=0.5, precision="float32")
NARROW = WidthSettings(ffn_multiple=8, hidden_multiple=4)


@pytest.fixture
def request_of(sources: dict[str, Path], corpus: Path, tmp_path: Path) -> Any:
    """A request for a tiny model on a tiny corpus, with changes."""

    def make(
        family: str = "llama-tied", output: str = "out", recipe: dict[str, Any] | None = None, **changes: Any
    ) -> Any:
        size = resolve_source(str(sources[family])).architecture.parameters
        values: dict[str, Any] = {
            "source": str(sources[family]),
            "corpus": str(corpus),
            "output": tmp_path / output,
            "tokens": 15 * 2 * 16,
            "target_parameters": round(0.75 * size),
            "widths": NARROW,
            "recipe": RECIPE.model_copy(update=recipe or {}),
            "data": DataSettings(block_length=16, validation_tokens=256),
            "checkpoint_steps": 4,
            "cache": tmp_path / "cache",
        }
        return PretrainRequest.model_validate(values | changes)

    return make


def log_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def losses_of(output: Path) -> list[float]:
    return [line["loss"] for line in log_of(output) if "event" not in line]


def drops_of(output: Path) -> list[dict[str, Any]]:
    return [line for line in log_of(output) if line.get("event") == "drop"]


def interrupt(request: PretrainRequest, step: int) -> None:
    """Run `request` until so many of its steps are done, and no further."""

    def stop(progress: Progress) -> None:
        if progress.phase == "growing" and progress.done == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(request, stop)


@pytest.mark.parametrize("family", ["llama-tied", "llama-untied", "llama-biases", "mistral", "qwen2", "qwen3"])
def test_every_family_is_grown_to_size(request_of: Any, family: str) -> None:
    request = request_of(family)
    result = pretrain(request)
    assert result.status == "finished" and result.loss is not None and result.events > 1
    assert result.parameters <= request.target_parameters
    drops = drops_of(request.output)
    assert drops[-1]["parameters"] == result.parameters == result.architecture.parameters
    assert len(losses_of(request.output)) == request.steps == 15
    model = AutoModelForCausalLM.from_pretrained(request.output / "model")
    assert sum(parameter.numel() for parameter in model.parameters()) >= result.parameters
    assert (request.output / "design.png").stat().st_size > 1000
    assert not (request.output / "checkpoint").exists()


def test_a_finished_run_is_not_paid_again(request_of: Any) -> None:
    request = request_of()
    first = pretrain(request)
    started = time.monotonic()
    assert pretrain(request) == first
    assert time.monotonic() - started < 1.0


def test_a_design_is_reached_in_a_number_of_drops(request_of: Any, sources: dict[str, Path]) -> None:
    source = resolve_source(str(sources["llama-tied"])).architecture
    shape = LayerShape(num_attention_heads=4, num_key_value_heads=2, intermediate_size=40)
    target = Architecture(fixed=source.fixed, hidden_size=48, layers=(shape,) * 3)
    request = request_of(target_parameters=None, target=target, drops=3)
    result = pretrain(request)
    assert result.architecture == target and result.events == 3


def test_the_papers_rule_waits_as_many_steps_as_channels(request_of: Any) -> None:
    """After an event of u channel units (FFN 1, stem 2, head head_dim) comes the next one u N steps later."""
    request = request_of(every=1, widths=WidthSettings(ffn_multiple=1, hidden_multiple=1, uniform=True), tokens=40 * 32)
    result = pretrain(request)
    drops = drops_of(request.output)
    assert len(drops) > 3 and result.architecture.is_homogeneous
    for before, after in pairwise(drops):
        removed = before["removed"]
        units = 16 if removed["attention"] else removed["ffn"] // 3 + 2 * removed["stem"]
        assert after["step"] - before["step"] == units
    for drop in drops:
        (kind,) = [kind for kind, count in drop["removed"].items() if count]
        least = {name: value for name, value in drop["least_saliency"].items() if value is not None}
        assert kind == min(least, key=lambda name: least[name]), "the type whose least salient group is lowest goes"


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
    ],
)
def test_going_on_from_a_checkpoint_is_bit_exact(request_of: Any, recipe: dict[str, Any]) -> None:
    """A run killed in the middle of its drops gives the same losses, drops and weights as an undisturbed one."""
    whole = request_of(output="whole", recipe=recipe)
    expected = pretrain(whole)
    broken = request_of(output="broken", recipe=recipe)
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


def test_when_fewer_tokens_are_read_does_not_hang_on_restarts(request_of: Any) -> None:
    """Killed after its widest layer has shrunk, before enough is known of it to read only some of the steps."""
    whole = request_of(output="whole", tokens=60 * 32)
    pretrain(whole)
    broken = request_of(output="broken", tokens=60 * 32)
    interrupt(broken, 14)
    pretrain(broken)
    assert drops_of(broken.output) == drops_of(whole.output)
    assert losses_of(broken.output) == losses_of(whole.output)


def test_masking_between_compactions_gives_nearly_the_same(request_of: Any) -> None:
    """The same groups go; zeros in between only change the order of sums."""
    one, other = (pretrain(request_of(output=str(n), recipe={"compact_every": n})) for n in (1, 4))
    assert one.architecture == other.architecture
    assert one.loss == pytest.approx(other.loss, rel=1e-3)


def test_the_model_is_compacted_when_enough_of_it_is_zeros(request_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default: after some small cuts; a restart in between gives the same model."""
    monkeypatch.setattr(pruner, "COMPACT_SHARE", 0.08)
    request, whole = request_of(output="broken"), request_of(output="whole")
    expected, drops = pretrain(whole), drops_of(whole.output)
    sizes = [line["parameters"] for line in log_of(whole.output) if "event" not in line]
    assert 1 < len(set(sizes)) < len(drops), "some drops are zeros for a while"
    for step, size in enumerate(sizes, 1):
        alive = [drop["parameters"] for drop in drops if drop["step"] < step]
        assert not alive or size - alive[-1] < 0.08 * size
    interrupt(request, 7)
    assert pretrain(request).loss == expected.loss
    assert losses_of(request.output) == losses_of(whole.output)
    one, other = (load_file(asked.output / "model" / "model.safetensors") for asked in (whole, request))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_calibration_lets_dropping_start_at_once(request_of: Any) -> None:
    """The batches that are only read change no weight, and are trained on afterwards."""
    request = request_of(calibration_steps=4, drops=2)
    result = pretrain(request)
    drops = drops_of(request.output)
    assert [drop["step"] for drop in drops] == [0, 3] and drops[0]["tokens"] == 0
    assert result.calibration_tokens == 4 * 2 * 16 and result.tokens == 15 * 2 * 16
    plain = request_of(output="plain", target_parameters=None)
    pretrain(plain)
    small = request_of(output="small", calibration_steps=4, target_parameters=None)
    pretrain(small)
    assert losses_of(small.output) == losses_of(plain.output)


@pytest.mark.slow
def test_compiled_blocks_grow_the_same_model(request_of: Any) -> None:
    """Blocks run as they are while they are recorded, and compiled afterwards: once for each shape that is left."""
    plain = pretrain(request_of(output="plain"))
    compiled = pretrain(request_of(output="compiled", recipe={"compile": True}))
    assert compiled.architecture == plain.architecture
    assert compiled.loss == pytest.approx(plain.loss, rel=1e-4)
    assert 0 < compiled.compilations <= len(set(compiled.architecture.layers))


def test_a_removal_that_is_under_way_at_the_end_is_made(request_of: Any) -> None:
    """Events up to the last step, each over four steps: the model that comes out is at its target all the same."""
    request = request_of(recipe={"update_steps": 4, "drop_share": 1.0, "compact_every": 3})
    result = pretrain(request)
    assert result.parameters <= request.target_parameters
    model = AutoModelForCausalLM.from_pretrained(result.model)
    assert model.config.hidden_size == result.architecture.hidden_size
    assert result.loss < result.source_loss + 1


def test_too_few_tokens_for_the_papers_rule_are_told(request_of: Any) -> None:
    request = request_of(every=3)
    result = pretrain(request)
    assert result.status == "finished" and result.parameters > request.target_parameters
    assert "above the target" in result.warnings[0] and "give more tokens" in result.warnings[0]


def test_a_target_that_leaves_next_to_nothing_draws_a_word(request_of: Any) -> None:
    result = pretrain(request_of(target_parameters=4_000))
    assert result.status == "finished" and result.parameters <= 4_000
    assert len(result.warnings) == 1 and "4.0% of the source" not in result.warnings[0]
    assert f"keeps {4_000 / result.source_parameters:.1%} of the source" in result.warnings[0]
    assert pretrain(request_of(output="ordinary")).warnings == ()


def test_another_config_is_refused(request_of: Any) -> None:
    pretrain(request_of())
    with pytest.raises(InputError, match=r"begun with other settings \(seed was 0 and is 1\)"):
        pretrain(request_of(seed=1))


def test_a_short_corpus_is_repeated_with_a_warning(request_of: Any, corpus: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.jsonl"
    short.write_text("\n".join(corpus.read_text().splitlines()[:4]))
    request = request_of(corpus=str(short), tokens=60 * 32, recipe={"learning_rate": 1e-6}, drops=2)
    result = pretrain(request)
    assert "it is repeated" in result.warnings[0]


def test_bad_requests(request_of: Any, sources: dict[str, Path]) -> None:
    source = resolve_source(str(sources["llama-tied"])).architecture
    with pytest.raises(InputError, match="not below the source's"):
        pretrain(request_of(target_parameters=source.parameters))
    with pytest.raises(InputError, match="smallest legal design has"):
        pretrain(request_of(target_parameters=1000))
    with pytest.raises(InputError, match="give at least 128 tokens"):
        pretrain(request_of(tokens=96))
    with pytest.raises(ValidationError, match="every goes with target_parameters"):
        request_of(target_parameters=None, every=2)
    wide = source.with_layers([source.layers[0].model_copy(update={"intermediate_size": 200})] * 3)
    wide = wide.model_copy(update={"hidden_size": 16})
    with pytest.raises(InputError, match="larger than the source"):
        pretrain(request_of(target_parameters=None, target=wide, types=("stem",)))


def test_a_loss_that_is_not_finite_is_a_result(request_of: Any) -> None:
    request = request_of(recipe={"learning_rate": 1e30, "gradient_clipping": 1e30})
    result = pretrain(request)
    assert result.status == "failed" and result.failure is not None and result.failure.kind == "not_finite"
    assert result.model is None and not (request.output / "model").exists()


def test_plain_training_needs_no_target(request_of: Any, sources: dict[str, Path]) -> None:
    result = pretrain(request_of(target_parameters=None))
    assert result.events == 0 and result.parameters == result.source_parameters
    assert result.loss < result.source_loss


def test_a_killed_process_goes_on(request_of: Any, tmp_path: Path) -> None:
    """kill -9 in the middle, a torn last line in the log included."""
    whole = request_of(output="whole", tokens=60 * 32)
    expected = pretrain(whole)
    request = request_of(tokens=60 * 32)
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


CODE = "import sys; from tools.pretrain import *; pretrain(PretrainRequest.model_validate_json(sys.argv[1]))"


@pytest.mark.parametrize(
    "recipe",
    [pytest.param({}, marks=pytest.mark.slow), {"saliency": "second", "compact_every": 2, "update_steps": 2}],
)
def test_two_ranks_grow_the_same_model_as_one(request_of: Any, tmp_path: Path, recipe: dict[str, Any]) -> None:
    """Under torchrun with gloo, through drops and a checkpoint: the same groups, and losses to rounding."""
    one = request_of(output="one", recipe=recipe)
    expected = pretrain(one)
    two = request_of(output="two", recipe=recipe)
    script = tmp_path / "script.py"
    script.write_text(CODE)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    path = os.pathsep.join(entry for entry in (str(Path.cwd()), os.environ.get("PYTHONPATH")) if entry)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [*launcher, two.model_dump_json()], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = pretrain(two)
    assert result.architecture == expected.architecture
    assert [drop["removed"] for drop in drops_of(two.output)] == [drop["removed"] for drop in drops_of(one.output)]
    assert losses_of(two.output) == pytest.approx(losses_of(one.output), rel=1e-4)
    assert result.loss == pytest.approx(expected.loss, rel=1e-4)


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
def test_a_lack_of_memory_is_a_result_with_the_peak_and_advice(request_of: Any) -> None:
    recipe = {"batch_size": 2048, "micro_batch_size": 2048, "warmup_steps": 1}
    request = request_of(recipe=recipe, tokens=3 * 2048 * 16, drops=1)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCARCE, request.model_dump_json()], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    failure = json.loads(done.stdout.splitlines()[-1])["failure"]
    assert failure["kind"] == "out_of_memory"
    assert "MB" in failure["message"] and "micro_batch_size" in failure["message"]


def test_a_full_disk_leaves_the_old_checkpoint(request_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second checkpoint cannot be written: the first one is whole, and the run goes on from it."""
    import tools.pretraining.growth_checkpoint as growth_checkpoint

    whole = request_of(output="whole")
    expected = pretrain(whole)
    request, calls = request_of(), []
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


def test_a_damaged_checkpoint_is_told(request_of: Any) -> None:
    request = request_of()
    interrupt(request, 7)
    files = [path for path in (request.output / "checkpoint").rglob("*") if path.is_file()]
    assert len(files) == 5
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError, match="is damaged: remove the folder") as caught:
            pretrain(request)
        assert "\n" not in str(caught.value)
        path.write_bytes(content)
    shutil.rmtree(request.output / "checkpoint")
    assert isinstance(pretrain(request), PretrainResult)
