"""What quality costs on a small device: loss against latency and file size, growing against one-shot pruning.

    python -m benchmarks.edge            # 85, 70 and 55 % of the parameters, 30,720 tokens, four one-shot methods
    python -m benchmarks.edge --quick    # the same sizes, 6,144 tokens, one one-shot method, fewer repeats

SmolLM2-135M as it is, grown to three sizes, and cut to the same sizes by methods of the field that train on the same
first tokens of `modern_mix` afterwards. Widths are multiples of 64. Losses are on the corpus' held-out part, of the
float32 weights. Every model is then measured by `tools.evaluation.edge_cost`, on the processor: torch in float32 and
llama.cpp in the formats named, each in a process of its own, after a repeat to warm up; files are written where
llama.cpp runs them and predicted otherwise. Models with layers that differ run in their own shapes, without padding.

So few tokens, most of all with --quick, say how the methods compare, not how good the models can become. Trained
models are kept in the cache folder, so an interrupted benchmark goes on; times are always measured anew.

`holds`: at every size the grown model has a lower loss than each one-shot method (mean over seeds), and prefill and
decode with both engines and the q8_0 file fall from the source to the smallest grown model, step by step.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.growing import Bars, Scale, Scales, job_of, new_figure, options, save_figure
from benchmarks.outcome import RESULTS, finish

NAME = "edge"
SHARES = (0.85, 0.70, 0.55)
BASELINES, QUICK_BASELINES = ("fisher", "llm-pruner", "wanda-sp", "flap"), ("fisher",)
FORMATS, QUICK_FORMATS = ("float32", "f16", "q8_0", "q4_k_m"), ("float32", "q8_0")
CALIBRATION_TOKENS, QUICK_CALIBRATION_TOKENS = 6144, 2048
SCALES: Scales = {
    ("cpu", True): Scale(tokens=6144, batch=2, micro_batch=1, block=256, validation_tokens=4096),
    ("cpu", False): Scale(tokens=30_720, batch=4, micro_batch=1, block=256, validation_tokens=16_384),
    ("cuda", True): Scale(tokens=245_760, batch=16, micro_batch=2, block=512, validation_tokens=32_768),
    ("cuda", False): Scale(tokens=2_457_600, batch=16, micro_batch=2, block=512, validation_tokens=65_536),
}
PROMPT_TOKENS = 64
NEW_TOKENS, QUICK_NEW_TOKENS = 32, 16
REPEATS, QUICK_REPEATS = 7, 3
SOURCE_ROW, GROWN = "source", "grown"
FALLING = ("torch prefill ms", "torch decode ms", "llama.cpp prefill ms", "llama.cpp decode ms", "MB as q8_0")
"""The figures that must fall as the grown model shrinks."""


def verdict(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, bool]]:
    """For each size, growing against the best one-shot method; and which figures fall as the grown model shrinks."""
    sizes = []
    for share in sorted({row["share"] for row in rows if row["method"] != SOURCE_ROW}, reverse=True):
        here = [row for row in rows if row["share"] == share]
        means = {name: mean(_values(here, name, "loss")) for name in {row["method"] for row in here}}
        rival = min(means.keys() - {GROWN}, key=means.__getitem__)
        sizes.append(
            {
                "share": share,
                "grown": round(means[GROWN], 4),
                "best_one_shot": rival,
                "one_shot": round(means[rival], 4),
                "below": means[GROWN] < means[rival],
            }
        )
    curve = _curve(rows, GROWN)
    falls = {name: all(later < earlier for earlier, later in pairwise(curve[name])) for name in FALLING}
    return sizes, falls


def edge_figures(cost: Any) -> dict[str, Any]:
    """Of an EdgeCost: the medians that are compared, and all of it but the place and the machine."""
    found: dict[str, Any] = {}
    for engine, name in (("torch", "float32"), ("llama.cpp", "q8_0")):
        speed = cost.speed(engine, name)
        if speed is None:
            raise RuntimeError(f"{engine} gave no speed as {name}: {cost.not_measured}")
        found[f"{engine} prefill ms"] = round(speed.prefill_ms.median, 3)
        found[f"{engine} decode ms"] = round(speed.decode_ms.median, 3)
        found[f"{engine} peak MB"] = round(speed.peak_memory_mb, 1)
    for size in cost.file_sizes:
        found.setdefault(f"MB as {size.format}", round(size.bytes / 1e6, 2))
    return {**found, "edge": cost.model_dump(mode="json", exclude={"model", "machine"})}


def _curve(rows: Sequence[dict[str, Any]], method: str) -> dict[str, list[float]]:
    """Means over seeds of every figure, from the source to the smallest model of `method`."""
    chosen = [row for row in rows if row["method"] in (SOURCE_ROW, method)]
    shares = sorted({row["share"] for row in chosen}, reverse=True)
    return {
        name: [mean(row[name] for row in chosen if row["share"] == share) for share in shares]
        for name in ("loss", "parameters", *FALLING)
    }


def _values(rows: Sequence[dict[str, Any]], method: str, figure: str) -> list[float]:
    return [row[figure] for row in rows if row["method"] == method]


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Loss against milliseconds of a decoded token, and against the size of the file."""
    figure, axes = new_figure(11, 4.4, 2)
    methods = list(dict.fromkeys(row["method"] for row in rows if row["method"] != SOURCE_ROW))
    panels = (("llama.cpp decode ms", "decode, ms per token (llama.cpp, q8_0)"), ("MB as q8_0", "file, MB (q8_0)"))
    for panel, (name, label) in zip(axes, panels, strict=True):
        for method in methods:
            curve = _curve(rows, method)
            ours = method == GROWN
            panel.plot(
                curve[name],
                curve["loss"],
                marker="o",
                markersize=5,
                label=method,
                color="#059669" if ours else None,
                linewidth=2.2 if ours else 1.1,
                zorder=3 if ours else 2,
            )
        source = next(row for row in rows if row["method"] == SOURCE_ROW)
        panel.scatter([source[name]], [source["loss"]], marker="s", color="#111827", zorder=4, label=SOURCE_ROW)
        panel.set_xlabel(label)
        panel.set_ylabel("held-out loss, nats per token")
    axes[0].legend(fontsize="small")
    save_figure(figure, axes, path)


def measure(job: Any, seeds: Sequence[int], threads: int | None = None) -> tuple[dict[str, Any], bool]:
    """All figures, and whether the marks hold."""
    from benchmarks.edge_rows import GROWING_WARMUP_SHARE, Material, grown_row, pruned_row, source_row
    from tools.evaluation.edge_cost import measure_edge

    quick = job.quick
    baselines, formats = (QUICK_BASELINES, QUICK_FORMATS) if quick else (BASELINES, FORMATS)
    material = Material.prepare(job, QUICK_CALIBRATION_TOKENS if quick else CALIBRATION_TOKENS)
    models = 1 + len(SHARES) * len(seeds) * (1 + len(baselines))
    with Bars(2 * models) as bars:
        trained = [source_row(material, bars)]
        for share in SHARES:
            for seed in seeds:
                trained.append(grown_row(material, share, seed, bars))
                trained += [pruned_row(material, name, share, seed, bars) for name in baselines]
        rows, machine = [], None
        for row in trained:
            figures = row.figures
            with bars.run(f"{figures['method']}, {figures['share']:.0%}, seed {figures['seed']}") as show:
                cost = measure_edge(
                    row.model,
                    threads=threads,
                    repeats=QUICK_REPEATS if quick else REPEATS,
                    prompt_tokens=PROMPT_TOKENS,
                    new_tokens=QUICK_NEW_TOKENS if quick else NEW_TOKENS,
                    formats=formats,
                    report=show,
                )
            machine = machine or cost.machine.model_dump(mode="json")
            rows.append({**figures, **edge_figures(cost)})
        bars.table(*_table(rows))
    sizes, falls = verdict(rows)
    speed = rows[0]["edge"]["speeds"][0]
    figures = {
        **material.facts(),
        "seeds": list(seeds),
        "growing_warmup_share": GROWING_WARMUP_SHARE,
        "threads": speed["threads"],
        "prompt_tokens": speed["prompt_tokens"],
        "new_tokens": speed["new_tokens"],
        "repeats": speed["decode_ms"]["repeats"],
        "machine": machine,
        "sizes": sizes,
        "falls": falls,
        "rows": rows,
    }
    return figures, all(entry["below"] for entry in sizes) and all(falls.values())


def _table(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    columns = (*FALLING, "MB as q4_k_m")
    header = ["method", "share", "parameters", "loss", *columns]
    shown = [
        [
            row["method"],
            f"{row['share']:.0%}",
            f"{row['parameters']:,}",
            f"{row['loss']:.4f}",
            *(f"{row[name]:.2f}" for name in columns),
        ]
        for row in rows
    ]
    return header, shown


def main() -> None:
    """Measure, draw, report."""
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="orders of the training text to run with")
    parser.add_argument("--threads", type=int, help="of the processor, when timing; all by default")
    arguments = parser.parse_args()
    job = job_of(NAME, arguments, SCALES)
    figures, holds = measure(job, range(arguments.seeds), arguments.threads)
    draw(figures["rows"], RESULTS / f"{NAME}.png")
    finish(NAME, holds, figures)


if __name__ == "__main__":
    main()
