"""What `benchmarks.pruning_quality` compares, and how it decides."""

import gzip
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import BaseModel

from benchmarks import outcome, pruning_quality, quality_kept
from benchmarks.growing import Bars
from benchmarks.pruning_quality import (
    BUDGETS,
    DENSE,
    DISTILLED,
    GROWN,
    POST_TRAINING,
    SHARES,
    UNCUT,
    lead_over_limit,
    rows_of,
    verdict,
)
from benchmarks.quality_kept import PRECISIONS, Precision, Row, kept_rows, read
from benchmarks.quality_rows import Comparison, QualityScale, growing_request, grown_row, pruned_row
from tools.pretrain import PretrainRequest
from tools.pretraining.compute import Compute
from tools.pretraining.trainer import Trainer


@dataclass(frozen=True)
class FakeComparison:
    """Facts alone: a report of kept rows needs no model."""

    compute: Compute = field(default_factory=lambda: Compute("cpu", "float32"))

    def of(self, share: float, tokens: int, seed: int) -> "FakeComparison":
        return self

    def reporting(self, show: Any) -> "FakeComparison":
        return self

    def facts(self) -> dict[str, Any]:
        return {"source": "none", "precision": self.compute.precision}


class FakeRequest(BaseModel):
    """What growing would be asked for, and a folder, which is no part of a row's identity."""

    changes: dict[str, Any]
    corpus: str


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Comparison:
    def request(comparison: Comparison, changes: dict[str, Any]) -> FakeRequest:
        return FakeRequest(changes=changes, corpus="anywhere")

    monkeypatch.setattr(quality_kept, "growing_request", request)
    return cast(Comparison, FakeComparison())


@pytest.fixture
def report_of_kept(base: Comparison, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """What `--kept` reports at 85 % and 100 tokens, of the rows in the results below `tmp_path`."""
    a_file = tmp_path / "wiki.gz"
    a_file.write_bytes(gzip.compress(b"text"))
    monkeypatch.setattr(pruning_quality, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(outcome, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(pruning_quality, "shared_file", lambda name: a_file)
    monkeypatch.setattr(Comparison, "prepare", classmethod(lambda cls, *_: base))
    monkeypatch.setattr("sys.argv", ["pruning_quality", "--kept", "--shares", "0.85", "--budgets", "100"])

    def report() -> dict[str, Any]:
        pruning_quality.main()
        document: dict[str, Any] = json.loads((tmp_path / "results" / "pruning_quality.json").read_text())
        return document

    return report


def keep(
    one: Row, base: Comparison, folder: Path, loss: float, precision: Precision = "float32", wikitext2: float = 9.0
) -> None:
    place = one.place(replace(base, compute=Compute("cpu", precision)), folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    known = {"method": one.method, "share": one.share, "budget": one.tokens, "seed": 0}
    where = {"precision": precision, "processor": f"a {precision} one"}
    figures = {"loss": loss, "wikitext2": wikitext2, "parameters": 1, "seconds": 0.0, **where}
    place.write_text(json.dumps({**known, **figures}))


def row(method: str, loss: float, wikitext2: float, budget: int = 100, seed: int = 0) -> dict[str, Any]:
    return {"method": method, "share": 0.85, "budget": budget, "seed": seed, "loss": loss, "wikitext2": wikitext2}


def test_every_method_is_measured_at_every_size_and_budget() -> None:
    rows = list(rows_of(False, (0,)))
    methods = {*GROWN, *DISTILLED, *POST_TRAINING, "torch-pruning", "from scratch"}
    assert {(one.method, one.share, one.tokens) for one in rows} == {
        (method, share, tokens) for method in methods for share in SHARES for tokens in BUDGETS["cpu"]
    } | {(UNCUT, 1.0, tokens) for tokens in BUDGETS["cpu"]}
    assert len(rows) == (len(methods) * len(SHARES) + 1) * len(BUDGETS["cpu"])
    quick = list(rows_of(True, (0,)))
    assert 2 < len(quick) < 8 and set(GROWN) <= {one.method for one in quick} != set(GROWN)


def test_the_best_of_each_side_decides_for_each_figure() -> None:
    rows = [
        row("grown", 3.0, 40.0),
        row("grown, no repair", 2.9, 41.0),
        row("fisher", 3.1, 39.0),
        row("flap", 3.2, 50.0),
    ]
    loss, wikitext = verdict(rows)
    assert (loss["best_of_growing"], loss["best_other"], loss["below"]) == ("grown, no repair", "fisher", True)
    assert (wikitext["best_of_growing"], wikitext["best_other"], wikitext["below"]) == ("grown", "fisher", False)


def test_our_own_one_shot_method_is_a_rival_of_growing_and_one_of_ours_against_others() -> None:
    rows = [row("grown", 3.0, 40.0), row("penjing", 2.9, 39.0), row("fisher", 2.95, 40.5)]
    loss, wikitext = verdict(rows)
    assert (loss["best_other"], loss["below"], loss["ours_below"]) == ("penjing", False, True)
    assert (wikitext["below"], wikitext["ours_below"]) == (False, True)
    rows.append(row("flap", 2.8, 41.0))
    assert [entry["ours_below"] for entry in verdict(rows)] == [False, True]


def test_growing_against_its_limit_needs_no_others() -> None:
    rows = [row("grown", 3.0, 41.0), row("grown, no repair", 3.1, 40.0), row("penjing", 3.2, 42.0)]
    loss, wikitext = lead_over_limit(rows)
    assert (loss["best_of_growing"], loss["growing"], loss["limit"]) == ("grown", 3.0, 3.2)
    assert (wikitext["best_of_growing"], wikitext["growing"], wikitext["limit"]) == ("grown, no repair", 40.0, 42.0)
    assert lead_over_limit(rows[:2]) == lead_over_limit(rows[2:]) == []
    for one in rows:
        one["block_losses"] = {name: [one["loss"], one["loss"] + 1] for name in ("loss", "wikitext2")}
    assert lead_over_limit(rows)[0]["difference"] == pytest.approx(-0.2)


def test_rows_with_their_blocks_are_compared_block_by_block() -> None:
    """Means over seeds first: a row of a seed is of the same blocks as that of another."""
    blocks = {"grown": [[1.0, 4.0], [1.2, 4.2]], "fisher": [[1.3, 4.1], [1.3, 4.1]]}
    rows = [
        {
            **row(method, 3.0 + (method == "fisher"), 40.0, seed=seed),
            "block_losses": {"loss": found, "wikitext2": found},
        }
        for method, seeds in blocks.items()
        for seed, found in enumerate(seeds)
    ]
    for entry in verdict(rows):
        assert entry["difference"] == pytest.approx(-0.1) and entry["error"] == pytest.approx(0.1)
        assert entry["without_outlier"] is None
    del rows[0]["block_losses"], rows[1]["block_losses"]
    assert all("difference" not in entry for entry in verdict(rows))


def test_a_size_with_rows_of_one_side_only_has_no_verdict() -> None:
    assert verdict([row("grown", 3.0, 40.0)]) == verdict([row("fisher", 3.0, 40.0)]) == []
    assert verdict([row("grown", 3.0, 40.0), row("penjing", 3.1, 41.0)]) == []
    assert verdict([{**row(UNCUT, 2.0, 30.0), "share": 1.0}]) == []


@pytest.mark.parametrize("loss", [2.0, 9.0])
def test_a_distilled_model_is_on_neither_side(loss: float) -> None:
    rows = [row("grown", 3.0, 40.0), row("fisher", 3.1, 41.0)]
    [distilled] = DISTILLED
    assert verdict([*rows, row(distilled, loss, 20.0)]) == verdict(rows)


@pytest.mark.parametrize("missing", ["grown, distilled", "random"])
def test_it_holds_when_all_that_is_compared_was_measured(
    base: Comparison, report_of_kept: Callable[[], dict[str, Any]], tmp_path: Path, missing: str
) -> None:
    for one in [DENSE, *rows_of(False, (0,), [0.85], [100])]:
        if one.method != missing:
            loss, wikitext2 = {"grown": (3.0, 8.0), DENSE.method: (2.5, 7.0)}.get(one.method, (3.5, 9.0))
            keep(one, base, tmp_path / "results" / "pruning_quality", loss, wikitext2=wikitext2)
    document = report_of_kept()
    assert document["figures"]["not_measured"] == [f"{missing}, 85%, 100 tokens, seed 0"]
    assert document["holds"] == (missing == "grown, distilled")


def test_a_report_of_kept_rows_names_the_others(
    base: Comparison, report_of_kept: Callable[[], dict[str, Any]], tmp_path: Path
) -> None:
    kept = {"dense, before training": 3.0, "grown": 3.2, "fisher": 3.4}
    for one in [DENSE, *rows_of(False, (0,), [0.85], [100])]:
        if one.method in kept:
            # What another machine measured counts as well.
            keep(one, base, tmp_path / "results" / "pruning_quality", kept[one.method], "bfloat16")
    document = report_of_kept()
    assert not document["holds"] and [one["method"] for one in document["figures"]["rows"]] == ["grown", "fisher"]
    assert document["figures"]["precision"] == ["bfloat16"]
    assert document["figures"]["processors"] == ["a bfloat16 one"], "not this machine's"
    assert "flap, 85%, 100 tokens, seed 0" in document["figures"]["not_measured"]
    assert document["figures"]["verdict"][0]["below"]


@pytest.mark.parametrize("in_bfloat16", [1, 2, 3])
def test_rows_that_are_compared_are_of_one_precision(base: Comparison, tmp_path: Path, in_bfloat16: int) -> None:
    rows = list(rows_of(False, (0,), [0.85], [100]))[1:6]
    for one in rows[:2]:
        keep(one, base, tmp_path, 3.2)
    for one in rows[:in_bfloat16]:
        keep(one, base, tmp_path, 3.3, "bfloat16")
    found = kept_rows(rows, base, tmp_path)
    # Where as many are kept of both, this machine's.
    count, precision = (2, "float32") if in_bfloat16 < 3 else (3, "bfloat16")
    assert [one["precision"] for one in found if isinstance(one, dict)] == [precision] * count
    assert found[count:] == rows[count:]


def test_each_size_and_budget_has_its_own_precision(base: Comparison, tmp_path: Path) -> None:
    rows = [one for one in rows_of(False, (0,), [0.85, 0.7], [100]) if one.method == "grown"]
    for one, precision in zip(rows, PRECISIONS, strict=True):
        keep(one, base, tmp_path, 3.2, precision)
    found = kept_rows(rows, base, tmp_path)
    assert [one["precision"] for one in found if isinstance(one, dict)] == list(PRECISIONS)


def test_a_row_is_measured_once_and_anew_when_its_identity_changes(base: Comparison, tmp_path: Path) -> None:
    measured: list[str] = []

    def measure(comparison: Comparison) -> dict[str, Any]:
        measured.append(comparison.compute.precision)
        return {"parameters": 1, "loss": 3.0, "wikitext2": 9.0, "seconds": 0.0}

    def reported(row: Row) -> dict[str, Any]:
        with Bars(1) as bars:
            return row.measured(base, tmp_path, bars)

    one = Row("grown", 0.85, 100, 0, measure, {"damping": 0.1})
    assert reported(one) == reported(one) and measured == ["float32"]
    assert reported(one)["date"] and reported(one)["processor"]
    changed = reported(replace(one, growing={"damping": 0.2}))
    assert len(measured) == 2 and [read(path) for path in tmp_path.iterdir()] == [changed]


def test_seeds_count_by_their_mean() -> None:
    rows = [
        row("grown", 3.0, 40.0),
        row("grown", 4.0, 40.0, seed=1),
        row("fisher", 3.4, 41.0),
        row("fisher", 3.5, 41.0, seed=1),
    ]
    loss, _ = verdict(rows)
    assert loss["growing"] == pytest.approx(3.5) and loss["other"] == pytest.approx(3.45) and not loss["below"]


def test_budgets_are_judged_apart() -> None:
    rows = [
        row(name, loss, 40.0, budget)
        for budget, ours in ((100, 3.0), (200, 3.3))
        for name, loss in (("grown", ours), ("flap", 3.1))
    ]
    assert [entry["below"] for entry in verdict(rows) if entry["figure"] == "loss"] == [True, False]


@pytest.fixture(scope="module")
def tiny(sources: dict[str, Path], corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    scale = QualityScale(
        tokens=2048,
        batch=2,
        micro_batch=1,
        block=32,
        validation_tokens=256,
        calibration_tokens=512,
        wikitext_tokens=512,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PENJING_CACHE", str(tmp_path_factory.mktemp("cache")))
        found = Comparison.prepare(str(sources["llama-tied"]), corpus, corpus.read_text(), scale)
    return replace(found, source=replace(found.source, name=str(sources["llama-tied"]))).of(0.85, 640, 0)


ROWS = list(rows_of(False, (0,), [0.85], [640]))


def test_where_folders_are_plays_no_part_in_a_rows_identity(tiny: Comparison, tmp_path: Path) -> None:
    grown = ROWS[1]
    assert grown.growing is not None
    moved = replace(tiny, corpus_path=tmp_path / "corpus.jsonl", cache=tmp_path)
    assert grown.key(moved) == grown.key(tiny)
    assert grown.key(tiny) != replace(grown, growing={"damping": 0.9}).key(tiny) != grown.key(replace(tiny, seed=1))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows_are_of_the_precision_that_was_asked_for(tiny: Comparison, precision: Precision) -> None:
    """Whatever the hardware is best at: rows of two machines stand in one table."""
    asked = replace(tiny, compute=Compute("cpu", precision))
    grown, request = ROWS[1], growing_request(asked, {})
    assert request.recipe.precision == asked.recipe.precision == asked.facts()["precision"] == precision
    assert f"_cpu_{precision}_" in str(grown.place(asked, Path()))
    [other] = set(PRECISIONS) - {precision}
    assert grown.key(asked) != grown.key(replace(tiny, compute=Compute("cpu", other)))


@pytest.mark.parametrize("one", ROWS, ids=[one.method for one in ROWS])
def test_every_row_ends_at_the_size_with_figures(one: Row, tiny: Comparison) -> None:
    if one.method == "torch-pruning":
        pytest.importorskip("torch_pruning", reason="the peer torch-pruning is not installed")
    found = one.measure(tiny)
    assert found["loss"] > 0 and found["wikitext2"] > 1 and found["tokens"] == 640
    assert found["loss"] == pytest.approx(np.mean(found["block_losses"]["loss"]), abs=1e-4)
    assert math.log(found["wikitext2"]) == pytest.approx(np.mean(found["block_losses"]["wikitext2"]), abs=1e-3)
    assert (found["parameters"] <= tiny.target_parameters) == (one.method != UNCUT)


def test_all_rows_train_on_the_same_text(tiny: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []

    def noting(self: Trainer, model: Any, blocks: npt.NDArray[np.int32], *others: Any, **more: Any) -> None:
        texts.append(blocks)
        made(self, model, blocks, *others, **more)

    made = Trainer.__init__
    monkeypatch.setattr(Trainer, "__init__", noting)
    fresh = tiny.of(0.9, 384, 0)
    assert len(fresh.corpus.train) < len(tiny.corpus.train)
    grown_row(fresh, {})
    pruned_row(fresh, "fisher")
    assert len(texts) == 2 and np.array_equal(texts[0], texts[1]) and len(texts[0]) == 384 // 32


def test_a_row_that_does_not_exist_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["pruning_quality", "--methods", "grwn"])
    with pytest.raises(SystemExit) as stopped:
        pruning_quality.main()
    assert stopped.value.code == 2 and "'grown'" in capsys.readouterr().err


def test_what_a_kept_row_hangs_on() -> None:
    """With a further field of the request all grown rows are measured anew, for hours: say whether it decides any."""
    decide = "tokens target_parameters target every drops drop_curve calibration_steps types widths recipe data seed"
    fields = {*decide.split(), "source", "checkpoint_steps"}
    assert PretrainRequest.model_fields.keys() - quality_kept._WITHOUT_EFFECT == fields
