"""What the benchmarks share: a run is paid for once, another request has another folder, --help is always there."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import ablation
from benchmarks.growing import Bars, Job, Scale, grow, job_of, key_of, options, planned
from tools.pretrain import MODEL_FOLDER, RESULT_FILE
from tools.requests import NUMERICS_VERSION
from tools.settings import Recipe

ROOT = Path(__file__).parents[2]
SCALE = Scale(tokens=256, batch=2, micro_batch=1, block=32, validation_tokens=64)
RECIPE = Recipe(warmup_steps=1, batch_size=2, micro_batch_size=1, drop_share=0.5, precision="float32")


@pytest.mark.parametrize("name", ["ablation", "continuous_dropping", "pruning_overhead"])
def test_every_module_tells_its_options(name: str) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--quick" in done.stdout and f"python -m benchmarks.{name}" in done.stdout


def test_a_run_is_paid_for_once_and_leaves_its_figures_only(job_for: Callable[[str, Scale], Job]) -> None:
    job = job_for("growing", SCALE)
    request = planned(job, target_parameters=60_000, recipe=RECIPE)
    with Bars(2) as bars:
        first = grow(request, bars, "first")
        written = (request.output / RESULT_FILE).stat().st_mtime_ns
        again = grow(request, bars, "again")
    assert (request.output / RESULT_FILE).stat().st_mtime_ns == written
    assert again == first and first.result.status == "finished" and first.result.parameters <= 60_000
    assert len(first.events) == first.result.events > 0
    assert first.events[-1].parameters == first.result.parameters
    assert not (request.output / MODEL_FOLDER).exists()


def test_folders_follow_from_what_decides_the_numbers(
    job_for: Callable[[str, Scale], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_for("growing", SCALE)
    request = planned(job, target_parameters=60_000, recipe=RECIPE)
    assert (
        request.output == job.folder / key_of(request) == planned(job, target_parameters=60_000, recipe=RECIPE).output
    )
    others = [
        planned(job, target_parameters=60_001, recipe=RECIPE),
        planned(job, target_parameters=60_000, recipe=RECIPE, seed=1),
        planned(job, target_parameters=60_000, recipe=RECIPE.model_copy(update={"damping": 0.5})),
    ]
    assert len({request.output, *(other.output for other in others)}) == 4
    elsewhere = request.model_copy(update={"output": Path("elsewhere"), "cache": Path("elsewhere")})
    assert key_of(elsewhere) == key_of(request)
    monkeypatch.setattr("benchmarks.growing.NUMERICS_VERSION", NUMERICS_VERSION + 1)
    assert key_of(request) != request.output.name


def test_options_override_the_default_scale_and_fresh_forgets(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path))
    for name in ("growing", "other"):
        (tmp_path / "benchmarks" / name / "0123").mkdir(parents=True)
    scales = ablation.SCALES
    arguments = ["--quick", "--corpus", str(corpus), "--tokens", "1_024", "--batch", "2", "--block", "32"]
    job = job_of("growing", options("text").parse_args(arguments), scales)
    assert (job.scale.tokens, job.scale.batch, job.scale.block, job.scale.step_tokens) == (1024, 2, 32, 64)
    assert job.scale.micro_batch <= 2 and (job.folder / "0123").is_dir()
    job_of("growing", options("text").parse_args([*arguments, "--fresh"]), scales)
    assert not job.folder.exists() and (tmp_path / "benchmarks" / "other" / "0123").is_dir()
    with pytest.raises(SystemExit):
        options("text").parse_args(["--tokens", "0"])


def test_facts_can_be_written_as_json(job_for: Callable[[str, Scale], Job]) -> None:
    facts = json.loads(json.dumps(job_for("growing", SCALE).facts()))
    assert facts["data"] == "corpus.jsonl" and facts["block_length"] == 32 and facts["quick"] is True
