"""What each part of pruning-aware pretraining is worth: one change at a time, at equal tokens and equal size.

    python -m benchmarks.ablation            # all variants, 30,720 tokens a run, two seeds
    python -m benchmarks.ablation --quick    # six of them, 15,360 tokens, one seed
    python -m benchmarks.ablation --variants "one event" "uniform layers"    # these and the base
    python -m benchmarks.ablation --tokens 130048 --seeds 0 --variants "an event every 9th step"

SmolLM2-135M to 85.2 % of its parameters (114.6M). The base is the default recipe of `tools.pretrain` with a warm-up
of a fifth of the steps: an event after every step of the first quarter of the rest. Each variant changes one thing.
Compared are validation losses after all tokens; a difference is to the base with the same seed, which sees the same
batches in the same order. `errors` are standard errors of the differences over held-out blocks, seed by seed; where
one block is far from all others, `differences_without_outlier` leave it out. With other --tokens the report is named
after them. Uniform layers move in coarse steps and may end below the target; `parameters` tells.

`holds`: no variant is better than the base by more than the spread of seeds, which is the root mean square, over the
variants that are not mere controls, of the range of a variant's differences (0 with one seed); `beaten_by` names those
that are. Finished and interrupted runs are kept and gone on with; see --fresh.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from benchmarks.growing import Bars, Grown, Job, Scale, Scales, grow, job_of, new_figure, options, planned, save_figure
from benchmarks.outcome import RESULTS, finish, report_name
from tools.evaluation.paired import PairedDifference, paired_difference
from tools.pretrain import PretrainRequest
from tools.settings import Recipe, SaliencyName, WidthSettings

NAME = "ablation"
KEPT = 114_600_000 / 134_515_008
BASE = "base"
QUICK_SEEDS, FULL_SEEDS = (0,), (0, 1)
SCALES: Scales = {
    ("cpu", True): Scale(tokens=15_360, batch=4, micro_batch=1, block=256, validation_tokens=4096),
    ("cpu", False): Scale(tokens=30_720, batch=4, micro_batch=1, block=256),
    ("cuda", True): Scale(tokens=245_760, batch=16, micro_batch=2, block=512, validation_tokens=32_768),
    ("cuda", False): Scale(tokens=2_457_600, batch=16, micro_batch=2, block=512, validation_tokens=65_536),
}
PRETRAINING: Recipe = PretrainRequest.model_fields["recipe"].default
WIDTHS: WidthSettings = PretrainRequest.model_fields["widths"].default
# Rankings that are there to be compared with.
CONTROLS: tuple[SaliencyName, ...] = ("magnitude", "activation", "random")


@dataclass(frozen=True)
class Variant:
    """One row: what it changes of the base request and of its recipe."""

    name: str
    request: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    in_quick: bool = False
    is_control: bool = False


def base_recipe(scale: Scale) -> Recipe:
    """The default recipe at this scale."""
    steps = scale.tokens // scale.step_tokens
    sizes = {"batch_size": scale.batch, "micro_batch_size": scale.micro_batch, "warmup_steps": max(1, steps // 5)}
    return PRETRAINING.model_copy(update=sizes)


def drop_steps_of(scale: Scale) -> int:
    """Steps after which the base has an event."""
    recipe = base_recipe(scale)
    return max(1, round(recipe.drop_share * (scale.tokens // scale.step_tokens - recipe.warmup_steps)))


def variants_for(scale: Scale) -> list[Variant]:
    """The base and every change of it. What is the base's own setting is no variant, and neither is a second name."""
    drop_steps = drop_steps_of(scale)
    found = [
        Variant(BASE, in_quick=True),
        Variant("no second-order repair", recipe={"second_order_update": False}, in_quick=True),
        Variant("damping 0.1", recipe={"damping": 0.1}),
        Variant("damping 1", recipe={"damping": 1.0}),
        *(
            Variant(
                f"saliency {name}",
                recipe={"saliency": name},
                in_quick=name in ("second", "token"),
                is_control=name in CONTROLS,
            )
            for name in get_args(SaliencyName)
        ),
        Variant("decay 0.9 of saliency and moments", recipe={"saliency_decay": 0.9, "moment_decay": 0.9}),
        Variant("moments of 64 tokens a micro-batch", recipe={"moment_tokens": 64}),
        Variant("one event", request={"drops": 1}, in_quick=True),
        Variant("one event, over 4 steps", request={"drops": 1}, recipe={"update_steps": 4}),
        # The paper's N = 9 and 2; where the steps do not hold such an interval there is one event.
        Variant("an event every 9th step", request={"drops": max(1, drop_steps // 9)}),
        Variant("an event every 3rd step", request={"drops": max(1, drop_steps // 3)}),
        Variant("an event every 2nd step", request={"drops": max(1, drop_steps // 2)}),
        Variant("every step, each over 4 steps", recipe={"update_steps": 4}),
        Variant("dropped over half of the steps", recipe={"drop_share": 0.5}),
        Variant("dropped over all steps", recipe={"drop_share": 1.0}),
        Variant("early events drop more", request={"drop_curve": 0.5}),
        Variant("uniform layers", request={"widths": WIDTHS.model_copy(update={"uniform": True})}, in_quick=True),
        Variant("FFN only", request={"types": ("ffn",)}, in_quick=True),
    ]
    unique: dict[str, Variant] = {}
    for variant in found:
        settings = settings_of(variant, scale)
        unique.setdefault(repr(sorted((key, repr(value)) for key, value in settings.items())), variant)
    return list(unique.values())


def settings_of(variant: Variant, scale: Scale) -> dict[str, Any]:
    """All settings of a variant's request beside source, target and seed."""
    # Without `drops` there is one after each step.
    base = {"recipe": base_recipe(scale).model_copy(update=variant.recipe), "drops": None, **variant.request}
    return {"widths": WIDTHS, "drop_curve": 1.0, "types": PretrainRequest.model_fields["types"].default, **base}


def differences_to(base: Sequence[float | None], losses: Sequence[float | None]) -> list[float | None]:
    """Loss less the base's of the same seed; None where either is not finite."""
    return [None if one is None or two is None else two - one for one, two in zip(base, losses, strict=True)]


def mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where a value is missing."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def seed_spread(rows: Sequence[Sequence[float | None]]) -> float:
    """Root mean square, over the rows, of the range of a row's differences; rows that miss a value do not count.

    With two seeds that is twice the standard error of a row's mean, were all rows equally noisy.
    """
    ranges = [max(known) - min(known) for row in rows if (known := [v for v in row if v is not None]) == list(row)]
    return math.sqrt(sum(value**2 for value in ranges) / len(ranges)) if ranges else 0.0


def better_than_base(rows: Sequence[dict[str, Any]], spread: float) -> list[str]:
    """Names of the rows whose mean difference is below minus `spread`."""
    return [row["name"] for row in rows if row["difference"] is not None and row["difference"] < -spread]


def measure(job: Job, variants: Sequence[Variant], seeds: Sequence[int]) -> tuple[dict[str, Any], bool]:
    """The figures of all variants, the base first, and whether the base holds."""
    from tools.sources import resolve_source

    with Bars(len(variants) * len(seeds)) as bars:
        size = resolve_source(job.source, cache=job.cache / "sources").architecture.parameters
        target = round(KEPT * size)
        runs: dict[str, list[Grown]] = {variant.name: [] for variant in variants}
        # Seed by seed: an interrupted benchmark then has whole sets.
        for seed in seeds:
            for variant in variants:
                settings = settings_of(variant, job.scale)
                request = planned(job, target_parameters=target, seed=seed, **settings)
                runs[variant.name].append(grow(request, bars, f"{variant.name}, seed {seed}"))
        base = [run.result.loss for run in runs[BASE]]
        rows = [_row(variant, runs[variant.name], runs[BASE]) for variant in variants]
        _print(bars, rows)
    others = [row for row in rows if row["name"] != BASE]
    spread = seed_spread([row["differences"] for row in others if not row["is_control"]])
    beaten_by = better_than_base(others, spread)
    figures = {
        **job.facts(),
        "tokens": job.scale.tokens,
        "seeds": list(seeds),
        "source_parameters": size,
        "target_parameters": target,
        "source_loss": runs[BASE][0].result.source_loss,
        "base_recipe": base_recipe(job.scale).model_dump(mode="json", exclude={"training_steps", "drops"}),
        "events_of_base": len(runs[BASE][0].events),
        "rows": rows,
        "spread_of_seeds": round(spread, 5),
        "beaten_by": beaten_by,
    }
    return figures, not beaten_by and all(loss is not None for loss in base)


def _row(variant: Variant, runs: Sequence[Grown], base: Sequence[Grown]) -> dict[str, Any]:
    losses = [run.result.loss for run in runs]
    differences = differences_to([run.result.loss for run in base], losses)
    paired = [
        paired_difference(run.block_losses or (), own.block_losses or ()) for run, own in zip(runs, base, strict=True)
    ]
    difference = mean(differences)
    return {
        "name": variant.name,
        "is_control": variant.is_control,
        "losses": [None if loss is None else round(loss, 5) for loss in losses],
        "differences": [None if value is None else round(value, 5) for value in differences],
        "difference": None if difference is None else round(difference, 5),
        "errors": [_rounded(found, "error") for found in paired],
        "differences_without_outlier": [_rounded(found, "mean_without") for found in paired],
        "parameters": [run.result.parameters for run in runs],
        "tokens": [run.result.tokens for run in runs],
        "events": [run.result.events for run in runs],
        "shape": runs[0].result.architecture.describe(most_runs=3),
        "seconds": [round(run.result.seconds, 1) for run in runs],
    }


def _rounded(found: PairedDifference | None, name: str) -> float | None:
    value = None if found is None else getattr(found, name)
    return None if value is None else round(value, 5)


def _print(bars: Bars, rows: Sequence[dict[str, Any]]) -> None:
    header = ["variant", "loss less the base's", "errors", "without an outlier", "losses", "parameters", "events"]
    keys = ("difference", "errors", "differences_without_outlier", "losses", "parameters", "events")
    bars.table(header, [[row["name"], *(str(row[key]) for key in keys)] for row in rows])


def draw(figures: dict[str, Any], path: Path) -> None:
    """Mean differences as bars, those of the seeds as dots with their errors; left of zero is better than the base."""
    rows = [row for row in figures["rows"] if row["name"] != BASE]
    figure, axes = new_figure(8, 1.6 + 0.32 * len(rows))
    panel = axes[0]
    spread = figures["spread_of_seeds"]
    # Controls may be far off; the rest should still be told apart. What reaches beyond the edge says how far.
    shown = [
        value + sign * (error or 0.0)
        for row in rows
        if not row["is_control"]
        for value, error in zip(row["differences"], row["errors"], strict=True)
        if value is not None
        for sign in (-1, 1)
    ]
    left, right = 1.15 * min([*shown, -spread, 0.0]), 1.15 * max([*shown, spread, 1e-6])
    for place, row in enumerate(reversed(rows)):
        if row["difference"] is None:
            panel.text(0, place, " not finite", va="center", fontsize="small")
            continue
        color = "#d97706" if row["name"] in figures["beaten_by"] else "#2563eb"
        panel.barh(place, row["difference"], color="#9ca3af" if row["is_control"] else color, alpha=0.7)
        for difference, error in zip(row["differences"], row["errors"], strict=True):
            panel.errorbar(
                difference, place, xerr=error, fmt="o", color="#111827", markersize=3, linewidth=0.8, capsize=2
            )
        if row["difference"] > right:
            panel.text(right, place, f"{row['difference']:+.3f} ", va="center", ha="right", fontsize="small")
    panel.set_xlim(left, right)
    panel.set_yticks(range(len(rows)), [row["name"] for row in reversed(rows)], fontsize="small")
    panel.axvline(0, color="#111827", linewidth=0.8)
    panel.axvspan(-spread, spread, color="#6b7280", alpha=0.15)
    panel.set_xlabel(
        "validation loss less that of the base, nats per token\n"
        "(whiskers: standard error over blocks; grey band: spread of seeds)"
    )
    size = figures["target_parameters"] / 1e6
    panel.set_title(f"{Path(figures['source']).name} to {size:.1f}M parameters, {figures['tokens']:,} tokens each")
    save_figure(figure, axes, path)


def chosen(variants: Sequence[Variant], names: Sequence[str] | None, quick: bool) -> list[Variant]:
    """The base and the variants that are named; else all, or those of a quick run. Raises ValueError for others."""
    known = {variant.name for variant in variants}
    for name in names or ():
        if name not in known:
            raise ValueError(f"there is no variant {name!r}, only {', '.join(sorted(known - {BASE}))}")
    wanted = {BASE, *names} if names else {variant.name for variant in variants if variant.in_quick or not quick}
    return [variant for variant in variants if variant.name in wanted]


def main() -> None:
    """Measure, draw, report."""
    parser = options(__doc__)
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="measure only these, beside the base")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="default 0 1, quick 0")
    arguments = parser.parse_args()
    job = job_of(NAME, arguments, SCALES)
    try:
        variants = chosen(variants_for(job.scale), arguments.variants, job.quick)
    except ValueError as error:
        parser.error(str(error))
    figures, holds = measure(job, variants, arguments.seeds or (QUICK_SEEDS if job.quick else FULL_SEEDS))
    name = NAME if arguments.tokens is None else f"{NAME}_{job.scale.tokens}"
    draw(figures, RESULTS / f"{report_name(name)}.png")
    finish(name, holds, figures)


if __name__ == "__main__":
    main()
