"""What is left of a model's quality when it is made smaller, at equal tokens: growing against pruning after training.

    python -m benchmarks.pruning_quality            # 85 % and 70 %, two token budgets, every method
    python -m benchmarks.pruning_quality --quick    # 85 %, the small budget, the strongest rivals
    python -m benchmarks.pruning_quality --methods grown fisher --budgets 130048    # these rows only, kept for later
    python -m benchmarks.pruning_quality --precision float32    # rows to stand beside those of other hardware
    python -m benchmarks.pruning_quality --kept     # a report of the rows that earlier calls kept; the rest is named

Every side starts from the same weights (SmolLM2-135M), ends at no more than the same number of parameters and trains
on the same first tokens of `modern_mix`, AdamW, cosine to a tenth, bfloat16 over float32 weights where the hardware has
it. On a CPU: blocks of 256, 4 a step, learning rate 1e-4, budgets of 30,720 and 130,048 tokens; on a GPU: blocks of
512, 16 a step, 2e-4, 655,360 and 2,621,440 tokens. Post-training methods may look at 6,144 of these tokens (65,536 on a
GPU) before they cut, then train on all of them; growing pays for its warm-up from the same budget. From scratch has the
grown design and ten times the learning rate, without which it learns nothing. `torch-pruning` is the package, run live,
with its group Taylor importance on FFN channels. Two rows are in no verdict: `dense, trained` is not cut, and says what
the training text itself does to a figure; `grown, distilled` also learns from the source's predictions (weight 0.5), so
each of its steps passes through the source too. Figures, computed in float32: loss on the corpus' held-out part, and
perplexity on the start of WikiText-2's raw test part, in the same blocks. The report of a GPU is a file of its own,
pruning_quality_cuda.json.

Each row is kept in results/pruning_quality/ (`benchmarks/quality_kept.py`), so an interrupted benchmark goes on, here
or on another machine. `--kept` takes the rows of a size and budget in one precision only; each says its own. `holds`:
all rows that are compared were measured, and at every size and budget, for both figures, growing is below all others,
our own one-shot method (`penjing`: the same saliency and repair, the limit of a schedule with one event) among them.
`ours_below` says, beside, whether the best of growing and that limit is below every method of others. Rows are of the
same blocks of text, so a difference has a standard error over them; where one block is far from all others, the
difference without it stands beside. `lead_over_limit` is of growing against that limit alone.
"""

import argparse
import gzip
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.growing import CORPUS, SOURCE, Bars, Device, new_figure, save_figure
from benchmarks.outcome import RESULTS, finish, report_name, shared_file
from benchmarks.quality_kept import PRECISIONS, Row, kept_rows
from benchmarks.quality_rows import (
    DROP_SHARE,
    GROWING_WARMUP_SHARE,
    SCALES,
    Comparison,
    dense_row,
    from_scratch_row,
    grown_row,
    pruned_row,
    torch_pruning_row,
    trained_dense_row,
)
from tools.evaluation.paired import paired_difference
from tools.pretraining.compute import choose_compute

NAME = "pruning_quality"
SHARES = (0.85, 0.7)
BUDGETS: dict[Device, tuple[int, ...]] = {"cpu": (30_720, 130_048), "cuda": (655_360, 2_621_440)}
POST_TRAINING = ("penjing", "llm-pruner", "llm-pruner-global", "fisher", "structured-obs", "wanda-sp", "flap", "random")
QUICK = ("fisher", "structured-obs", "wanda-sp")
GROWN: dict[str, dict[str, Any]] = {"grown": {}, "grown, no repair": {"second_order_update": False}}
DISTILLED: dict[str, dict[str, Any]] = {"grown, distilled": {"distillation": 0.5}}
OUR_LIMIT = "penjing"
UNCUT = "dense, trained"
NOT_COMPARED = {UNCUT, *DISTILLED}
SEEDS = (0,)
FIGURES = ("loss", "wikitext2")
DENSE = Row("dense, before training", 1.0, 0, 0, dense_row)


def rows_of(
    quick: bool, seeds: Sequence[int], shares: Sequence[float] = SHARES, budgets: Sequence[int] = BUDGETS["cpu"]
) -> Iterator[Row]:
    """All rows, the quicker ones first."""
    for tokens in budgets[:1] if quick else budgets:
        if not quick:
            for seed in seeds:
                yield Row(UNCUT, 1.0, tokens, seed, trained_dense_row)
        for share in shares[:1] if quick else shares:
            for seed in seeds:
                for name, recipe in (GROWN if quick else GROWN | DISTILLED).items():
                    yield Row(name, share, tokens, seed, partial(grown_row, changes=recipe), recipe)
                for name in QUICK if quick else POST_TRAINING:
                    yield Row(name, share, tokens, seed, partial(pruned_row, name=name))
                if not quick:
                    yield Row("torch-pruning", share, tokens, seed, torch_pruning_row)
                    yield Row("from scratch", share, tokens, seed, from_scratch_row, {})


METHOD_NAMES = tuple(dict.fromkeys(row.method for row in rows_of(False, SEEDS)))


def verdict(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each size, budget and figure: the best of growing and the best of the others, by the mean over seeds.

    Sizes and budgets where one of the two sides has no row are left out. `difference`, of growing to the other, is in
    nats per token for both figures; `error` is its standard error over blocks.
    """
    found = []
    compared = [row for row in rows if row["method"] not in NOT_COMPARED]
    for share, budget in sorted({(row["share"], row["budget"]) for row in compared}):
        here = [row for row in compared if (row["share"], row["budget"]) == (share, budget)]
        for figure in FIGURES:
            means = {name: float(np.mean(_values(here, name, figure))) for name in {row["method"] for row in here}}
            growing, others = means.keys() & GROWN.keys(), means.keys() - GROWN.keys()
            if not growing or not others - {OUR_LIMIT}:
                continue
            ours, rival = min(growing, key=means.__getitem__), min(others, key=means.__getitem__)
            best_of_ours = min(means[name] for name in growing | (means.keys() & {OUR_LIMIT}))
            found.append(
                {
                    "share": share,
                    "budget": budget,
                    "figure": figure,
                    "best_of_growing": ours,
                    "growing": round(means[ours], 4),
                    "best_other": rival,
                    "other": round(means[rival], 4),
                    "below": means[ours] < means[rival],
                    **_paired(here, ours, rival, figure),
                    "ours_below": best_of_ours < min(means[name] for name in others - {OUR_LIMIT}),
                }
            )
    return found


def lead_over_limit(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best of growing against its own limit of one event, for each size, budget and figure that both have."""
    found = []
    for share, budget in sorted({(row["share"], row["budget"]) for row in rows}):
        here = [row for row in rows if (row["share"], row["budget"]) == (share, budget)]
        for figure in FIGURES:
            means = {row["method"]: float(np.mean(_values(here, row["method"], figure))) for row in here}
            growing = means.keys() & GROWN.keys()
            if not growing or OUR_LIMIT not in means:
                continue
            ours = min(growing, key=means.__getitem__)
            values = {"growing": round(means[ours], 4), "limit": round(means[OUR_LIMIT], 4)}
            where = {"share": share, "budget": budget, "figure": figure, "best_of_growing": ours}
            found.append({**where, **values, **_paired(here, ours, OUR_LIMIT, figure)})
    return found


def _paired(rows: list[dict[str, Any]], ours: str, rival: str, figure: str) -> dict[str, float | None]:
    """The difference on the same blocks, means over seeds; nothing where a row was kept without its blocks."""
    blocks = [
        [row["block_losses"][figure] for row in rows if row["method"] == name and "block_losses" in row]
        for name in (ours, rival)
    ]
    if not all(blocks):
        return {}
    found = paired_difference(*(np.mean(losses, axis=0).tolist() for losses in blocks))
    if found is None:
        return {}
    values = {"difference": found.mean, "error": found.error, "without_outlier": found.mean_without}
    return {name: None if value is None else round(value, 4) for name, value in values.items()}


def draw(rows: list[dict[str, Any]], dense: dict[str, Any], path: Path) -> None:
    """One panel for each size and budget at which both sides have rows, methods from best to worst."""
    places = {(entry["share"], entry["budget"]) for entry in verdict(rows)}
    panels = sorted(places, key=lambda place: (place[1], -place[0]))
    if not panels:
        return
    figure, axes = new_figure(4.6 * len(panels), 4.4, len(panels))
    for panel, (share, budget) in zip(axes, panels, strict=True):
        here = [row for row in rows if (row["share"], row["budget"]) == (share, budget)]
        names = sorted({row["method"] for row in here}, key=lambda name: -np.mean(_values(here, name, "loss")))
        for place, name in enumerate(names):
            color = "#059669" if name in GROWN else "#6ee7b7" if name in DISTILLED else "#9ca3af"
            losses = _values(here, name, "loss")
            panel.barh(place, float(np.mean(losses)) - dense["loss"], color=color)
            panel.scatter([loss - dense["loss"] for loss in losses], [place] * len(losses), s=8, color="#111827")
        panel.set_yticks(range(len(names)), names, fontsize="small")
        panel.set_xlabel("loss above the dense source (nats per token)")
        panel.set_title(f"{share:.0%} of the parameters, {budget:,} tokens", fontsize="medium")
        rivals = [
            float(np.mean(_values(here, name, "loss"))) - dense["loss"] for name in names if name != "from scratch"
        ]
        panel.set_xlim(0, 1.15 * max(rivals))
    save_figure(figure, axes, path)


def _values(rows: list[dict[str, Any]], method: str, figure: str) -> list[float]:
    return [row[figure] for row in rows if row["method"] == method]


def main() -> None:
    """Measure, draw, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one size, the small budget, the strongest rivals")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="orders of the training text to run with")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="shares of the parameters to keep")
    parser.add_argument("--budgets", type=int, nargs="+", help="training tokens; default by device")
    parser.add_argument(
        "--methods", nargs="+", choices=METHOD_NAMES, help="measure and keep only these rows; no report"
    )
    parser.add_argument(
        "--precision", choices=("auto", *PRECISIONS), default="auto", help="of matrix products; default by hardware"
    )
    parser.add_argument("--kept", action="store_true", help="report what earlier calls kept; measure nothing")
    arguments = parser.parse_args()
    compute = choose_compute(arguments.precision)
    device: Device = "cuda" if compute.device == "cuda" else "cpu"
    budgets = arguments.budgets or BUDGETS[device]
    with gzip.open(shared_file("wikitext2/wiki.test.raw.gz"), "rt") as file:
        base = Comparison.prepare(SOURCE, shared_file(CORPUS), file.read(), SCALES[device], compute)
    folder = RESULTS / NAME
    wanted = list(rows_of(arguments.quick, range(arguments.seeds), arguments.shares, budgets))
    if arguments.methods:
        wanted = [row for row in wanted if row.method in arguments.methods]
    found: list[Row | dict[str, Any]] = kept_rows(wanted, base, folder) if arguments.kept else [*wanted]
    missing = [row for row in found if isinstance(row, Row)] if arguments.kept else []
    chosen = [row for row in found if row not in missing]
    with Bars(len(chosen) + 1) as bars:
        [dense] = _measured(kept_rows([DENSE], base, folder), base, folder, bars)
        rows = _measured(chosen, base, folder, bars)
        header = ["method", "share", "budget", "parameters", "loss untrained", "loss", "WikiText-2", "seconds"]
        bars.table(header, [_shown(row) for row in [dense, *rows]])
    if arguments.methods:
        return
    draw(rows, dense, RESULTS / f"{report_name(NAME)}.png")
    decided = verdict(rows)
    facts = {**base.facts(), "growing_warmup_share": GROWING_WARMUP_SHARE, "drop_share": DROP_SHARE}
    # Rows may be of other machines than this one, which the report names as its own.
    for name, of_row in (("precision", "precision"), ("processors", "processor")):
        facts[name] = sorted({str(row[of_row]) for row in [dense, *rows]})
    not_measured = [row.label for row in missing]
    shown = [{name: value for name, value in row.items() if name != "block_losses"} for row in (dense, *rows)]
    figures = {"dense": shown[0], "rows": shown[1:], "not_measured": not_measured, "verdict": decided, **facts}
    figures["lead_over_limit"] = lead_over_limit(rows)
    all_compared = all(row.method in NOT_COMPARED for row in missing)
    finish(NAME, all_compared and all(entry["below"] for entry in decided), figures)


def _measured(rows: Sequence[Row | dict[str, Any]], base: Comparison, folder: Path, bars: Bars) -> list[dict[str, Any]]:
    """The figures of each row, those that are there already among them."""
    return [row.measured(base, folder, bars) if isinstance(row, Row) else row for row in rows]


def _shown(row: dict[str, Any]) -> list[str]:
    untrained = row.get("loss_untrained")
    return [
        row["method"],
        f"{row['share']:.0%}",
        f"{row['budget']:,}",
        f"{row['parameters']:,}",
        "-" if untrained is None else f"{untrained:.3f}",
        f"{row['loss']:.4f}",
        f"{row['wikitext2']:.2f}",
        f"{row['seconds']:.0f}",
    ]


if __name__ == "__main__":
    main()
