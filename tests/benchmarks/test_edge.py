"""The edge benchmark: the verdict from given figures, and the whole of it on a tiny model."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import edge
from benchmarks.edge import FALLING, GROWN, QUICK_BASELINES, SCALES, SHARES, SOURCE_ROW, draw, measure, verdict
from benchmarks.edge_rows import ROW_FILE, Material, Row, grown_row, pruned_row, source_row
from benchmarks.growing import Bars, Job, Scale
from tools.evaluation.edge_subject import open_subject
from tools.pretrain import MODEL_FOLDER
from tools.settings import WidthSettings

ROOT = Path(__file__).parents[2]


def row(method: str, share: float, loss: float, cost: float, seed: int = 0) -> dict[str, Any]:
    figures = dict.fromkeys(FALLING, cost)
    return {"method": method, "share": share, "seed": seed, "loss": loss, "parameters": round(share * 100), **figures}


SOURCE = row(SOURCE_ROW, 1.0, 3.0, 10.0)


def test_growing_must_be_below_the_best_one_shot_method_at_every_size() -> None:
    rows = [
        SOURCE,
        row(GROWN, 0.85, 3.1, 9.0),
        row("fisher", 0.85, 3.3, 9.0),
        row("flap", 0.85, 3.2, 9.0),
        row(GROWN, 0.7, 3.6, 8.0),
        row("fisher", 0.7, 3.5, 8.0),
        row("flap", 0.7, 3.7, 8.0),
    ]
    first, second = verdict(rows)[0]
    assert (first["share"], first["best_one_shot"], first["below"]) == (0.85, "flap", True)
    assert (second["share"], second["best_one_shot"], second["below"]) == (0.7, "fisher", False)


def test_seeds_count_by_their_mean() -> None:
    rows = [
        SOURCE,
        row(GROWN, 0.85, 3.0, 9.0),
        row(GROWN, 0.85, 4.0, 9.0, seed=1),
        row("fisher", 0.85, 3.4, 9.0),
        row("fisher", 0.85, 3.5, 9.0, seed=1),
    ]
    (entry,), _ = verdict(rows)
    assert entry["grown"] == pytest.approx(3.5) and entry["one_shot"] == pytest.approx(3.45) and not entry["below"]


@pytest.mark.parametrize("name", FALLING)
def test_each_figure_must_fall_step_by_step(name: str) -> None:
    rows = [SOURCE]
    for share, cost in ((0.85, 9.0), (0.7, 8.0), (0.55, 7.0)):
        rows += [row(GROWN, share, 3.1, cost), row("fisher", share, 3.2, 99.0)]
    assert all(verdict(rows)[1].values())
    rows[3] = {**rows[3], name: 9.5}
    falls = verdict(rows)[1]
    assert [figure for figure, falling in falls.items() if not falling] == [name]


def test_the_module_tells_its_options() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.edge", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--quick" in done.stdout and "python -m benchmarks.edge" in done.stdout


def test_quick_trains_less_than_the_full_run() -> None:
    for device in ("cpu", "cuda"):
        assert SCALES[device, True].tokens < SCALES[device, False].tokens  # type: ignore[index]
    assert set(edge.QUICK_BASELINES) < set(edge.BASELINES) and set(edge.QUICK_FORMATS) < set(edge.FORMATS)


@pytest.fixture
def job(job_for: Callable[[str, Scale], Job], monkeypatch: pytest.MonkeyPatch) -> Job:
    """A tiny job, with steps of the widths that its model can take."""
    monkeypatch.setattr("benchmarks.edge_rows.WIDTHS", WidthSettings(ffn_multiple=8, hidden_multiple=8))
    return job_for("edge", Scale(tokens=512, batch=2, micro_batch=1, block=32, validation_tokens=64))


def test_every_model_is_trained_once_and_kept_in_its_own_shapes(job: Job) -> None:
    material = Material.prepare(job, 128)

    def rows() -> list[Row]:
        with Bars(3) as bars:
            trained = [grown_row(material, 0.7, 0, bars), pruned_row(material, "flap", 0.7, 0, bars)]
            return [source_row(material, bars), *trained]

    first = rows()
    for one in first:
        subject = open_subject(one.model)
        assert subject.design == subject.padded and subject.design is not None
        assert subject.design.parameters == one.figures["parameters"]
        assert subject.design.describe() == one.figures["design"]
        # What was saved is what the loss is of, but for the rounding to bfloat16.
        assert material.loss(subject.load()) == pytest.approx(one.figures["loss"], rel=0.02)
    for one in first[1:]:
        assert one.figures["parameters"] <= material.target(0.7) and one.figures["tokens"] == 512
    kept = {file: file.stat().st_mtime_ns for file in job.folder.rglob("*") if file.is_file()}
    # The padded directory of growing is gone once its model is kept.
    assert len([file for file in kept if file.name == ROW_FILE]) == 3 and not list(job.folder.glob(f"*/{MODEL_FOLDER}"))
    assert rows() == first
    assert {file: file.stat().st_mtime_ns for file in job.folder.rglob("*") if file.is_file()} == kept


@pytest.mark.slow
def test_the_whole_of_it_on_a_tiny_model(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "SHARES", SHARES[:1])
    figures, holds = measure(job, (0,), threads=1)
    source, grown, pruned = figures["rows"]
    assert [one["method"] for one in figures["rows"]] == [SOURCE_ROW, GROWN, *QUICK_BASELINES]
    target = round(SHARES[0] * source["parameters"])
    assert grown["parameters"] <= target and grown["tokens"] == pruned["tokens"] == 512
    for one in figures["rows"]:
        assert all(one[name] > 0 for name in (*FALLING, "MB as f16", "MB as q4_k_m"))
        assert one["edge"]["counts"]["parameters"] == one["edge"]["counts"]["padded_parameters"] == one["parameters"]
        assert one["edge"]["not_measured"] == []
    assert grown["MB as q8_0"] < source["MB as q8_0"]
    assert (figures["threads"], figures["repeats"]) == (1, edge.QUICK_REPEATS)
    assert holds == (all(entry["below"] for entry in figures["sizes"]) and all(figures["falls"].values()))
    draw(figures["rows"], tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
