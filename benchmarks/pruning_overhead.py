"""What pruning costs while it goes on: pruning-aware steps against dense ones of equal shape; speed as it shrinks.

    python -m benchmarks.pruning_overhead            # 36 pairs of steps for each main row
    python -m benchmarks.pruning_overhead --quick    # 9, and not what else could be recorded

One model takes a pruning-aware step (statistics and saliency recorded), a dense step at the same shape, then the event
if one is due, and so on in turn: noise of the machine hits both. The aware step comes first, so that what a new shape
costs, such as compiled kernels, is counted against pruning; a pair's ratio is (aware step + event) / dense step.

Statistics read every token until they know enough, then a quarter of every fourth step (`tools/pruning/sampling.py`). A
main row has seen that many tokens before its first pair, as all but the first dozen steps of a training have: the
default recipe with an event after every step (15 % of the parameters in 250 events), and the paper's sparse events (N =
9, all layers alike). `ratio_of_sums` tells what the steps that are read, and compactions, add on the whole.
The row `first steps` begins with nothing seen; the others vary what is recorded. Two warm-up pairs are not counted, so
neither is the first event's factorisation of the input moments. In a whole training recording ends with the last event:
`whole_training` is 1 + drop_share (ratio - 1).

Tokens per second of dense steps are measured as the source shrinks to 85, 70 and 55 %. Peak memory is that of a fresh
process for each kind of training. Times are always measured anew; only the packed corpus is kept.

`holds`: both main rows have a median ratio of at most 1.05, and each smaller shape is faster than the one before.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from benchmarks.growing import Bars, Job, Scale, Scales, job_of, new_figure, options, save_figure
from benchmarks.outcome import RESULTS, finish, report_name
from benchmarks.paired_steps import (
    EVERY_STEP,
    SPARSE,
    Mode,
    N,
    Pair,
    bench_for,
    pairs_of,
    quartiles,
    speeds_of,
)
from tools.freed_memory import freed_memory_kept
from tools.pretrain import PretrainRequest
from tools.settings import Recipe, SaliencyName, WidthSettings

if TYPE_CHECKING:
    from tools.pretraining.blocks import Blocks
    from tools.sources import Source

NAME = "pruning_overhead"
MARK = 1.05
MEMORY_STEPS = 3
SALIENCIES: tuple[SaliencyName, ...] = ("second", "token", "token_sequence")
MOMENT_TOKENS = (None, 256)
PRETRAINING: Recipe = PretrainRequest.model_fields["recipe"].default
# Tokens are those of a main row, dense and aware steps together.
SCALES: Scales = {
    ("cpu", True): Scale(tokens=2 * 9 * 1024, batch=4, micro_batch=4, block=256),
    ("cpu", False): Scale(tokens=2 * 36 * 1024, batch=4, micro_batch=4, block=256),
    ("cuda", True): Scale(tokens=2 * 36 * 16_384, batch=16, micro_batch=16, block=1024),
    ("cuda", False): Scale(tokens=2 * 90 * 16_384, batch=16, micro_batch=16, block=1024),
}

Kind = Literal["dense", "aware"]
KINDS: tuple[Kind, ...] = ("dense", "aware")


@dataclass(frozen=True)
class Setting:
    """One row: what is recorded, when events come, and whether enough tokens were seen for some of the steps to do."""

    recipe: Recipe
    mode: Mode
    known: bool


def summary(pairs: Sequence[Pair], step_tokens: int, drop_share: float) -> dict[str, Any]:
    """The figures of one row."""
    ratio = quartiles([pair.ratio for pair in pairs])
    aware = sum(pair.aware + pair.event for pair in pairs)
    events = [pair.event for pair in pairs if pair.event > 0]
    return {
        "pairs": len(pairs),
        "events": len(events),
        "ratio": round(ratio[1], 4),
        "ratio_quartiles": [round(value, 4) for value in ratio],
        "ratio_of_sums": round(aware / sum(pair.dense for pair in pairs), 4),
        "ratio_without_events": round(statistics.median(pair.aware / pair.dense for pair in pairs), 4),
        "whole_training": round(1 + drop_share * (ratio[1] - 1), 4),
        "dense_seconds": [round(value, 4) for value in quartiles([pair.dense for pair in pairs])],
        "aware_seconds": [round(value, 4) for value in quartiles([pair.aware + pair.event for pair in pairs])],
        "event_seconds": round(statistics.median(events), 4) if events else None,
        "dense_tokens_per_second": round(step_tokens / statistics.median(pair.dense for pair in pairs), 1),
    }


def rises(speeds: Sequence[float]) -> bool:
    """Whether each is above the one before."""
    return all(later > earlier for earlier, later in pairwise(speeds))


def settings_to_measure(base: Recipe) -> list[Setting]:
    """The two main rows, the first steps of the default, then each recording of the grid that is not the default's."""
    grid = [
        base.model_copy(update={"saliency": saliency, "moment_tokens": tokens})
        for saliency in SALIENCIES
        for tokens in MOMENT_TOKENS
    ]
    default = [Setting(base, EVERY_STEP, True), Setting(base, SPARSE, True), Setting(base, EVERY_STEP, False)]
    return [*default, *(Setting(recipe, EVERY_STEP, False) for recipe in grid if recipe != base)]


@freed_memory_kept()
def memory_of(job: Job, kind: Kind) -> float:
    """Peak megabytes of a few steps in this process: of the GPU where there is one, otherwise of the process."""
    import torch

    from tools.memory_use import peak_memory_mb

    source, blocks = _material(job)
    bench = bench_for(source, blocks, _recipe(job.scale), EVERY_STEP)
    for _ in range(MEMORY_STEPS):
        if kind == "aware":
            # Both kinds take as many steps; the event is due at even ones.
            bench.aware_step()
            bench.aware_step()
            bench.event()
        else:
            bench.dense_step()
            bench.dense_step()
    return torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else peak_memory_mb()


def memory_in_fresh_process(job: Job, kind: Kind) -> float:
    """The same, of a process that does nothing else."""
    scale = job.scale
    command = [sys.executable, "-m", f"benchmarks.{NAME}", "--memory", kind, "--source", job.source]
    command += ["--corpus", job.corpus, "--batch", str(scale.batch), "--micro-batch", str(scale.micro_batch)]
    command += ["--block", str(scale.block), "--tokens", str(scale.tokens)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[1])
    return float(json.loads(done.stdout.splitlines()[-1]))


@freed_memory_kept()
def measure(job: Job, memory: Mapping[str, float]) -> tuple[dict[str, Any], bool]:
    """All figures, and whether the marks hold; `memory` is the peak of each kind of training."""
    main_pairs = max(N, job.scale.tokens // (2 * job.scale.step_tokens))
    recipe = _recipe(job.scale)
    settings = settings_to_measure(recipe)
    if job.quick:
        settings = [setting for setting in settings if setting.recipe == recipe]
    widths = {"as dropped": cast(WidthSettings, PretrainRequest.model_fields["widths"].default)}
    if not job.quick:
        widths["in steps of 64 and 32"] = WidthSettings(ffn_multiple=64, hidden_multiple=32)
    with Bars(len(settings) + len(widths)) as bars:
        source, blocks = _material(job)
        rows = []
        for setting in settings:
            pairs = main_pairs if setting.known else max(3, main_pairs // 3)
            recipe_of_row = setting.recipe
            row = {
                "saliency": recipe_of_row.saliency,
                "moment_tokens": recipe_of_row.moment_tokens,
                "events_come": setting.mode,
                "enough_seen": setting.known,
            }
            with bars.run(_label(row)) as show:
                bench = bench_for(source, blocks, recipe_of_row, setting.mode, setting.known)
                found = pairs_of(bench, pairs, show)
            rows.append({**row, **summary(found, job.scale.step_tokens, recipe_of_row.drop_share)})
        shapes: dict[str, list[dict[str, Any]]] = {}
        for name, kind_of_widths in widths.items():
            with bars.run(f"speed, widths {name}") as show:
                shapes[name] = list(speeds_of(source, blocks, recipe, kind_of_widths, max(3, main_pairs // 3), show))
        _print(bars, rows, shapes)
    speeds = [shape["tokens_per_second"] for shape in shapes["as dropped"]]
    figures = {
        **job.facts(),
        "tokens": 2 * main_pairs * job.scale.step_tokens,
        "seeds": [0],
        "rows": rows,
        "mark": MARK,
        "shapes": shapes,
        "faster_as_it_shrinks": rises(speeds),
        "peak_memory_mb": {kind: round(value, 1) for kind, value in memory.items()},
        "memory_ratio": round(memory["aware"] / memory["dense"], 4),
    }
    return figures, all(row["ratio"] <= MARK for row in rows[:2]) and rises(speeds)


def _recipe(scale: Scale) -> Recipe:
    """The default recipe of pretraining at this batch."""
    return PRETRAINING.model_copy(
        update={"warmup_steps": 2, "batch_size": scale.batch, "micro_batch_size": scale.micro_batch}
    )


def _material(job: Job) -> tuple["Source", "Blocks"]:
    from tools.pretraining.corpus import prepare_corpus
    from tools.sources import resolve_source

    source = resolve_source(job.source, cache=job.cache / "sources")
    data = job.scale.data.model_copy(update={"training_tokens": max(job.scale.tokens, 4 * job.scale.step_tokens)})
    return source, prepare_corpus(job.corpus, source.path, data, job.cache / "corpora").train


def _label(row: dict[str, Any]) -> str:
    if row["enough_seen"]:
        return f"{row['saliency']}, {row['events_come']}"
    tokens = f"of {row['moment_tokens']} tokens" if row["moment_tokens"] else "of all tokens"
    return f"first steps: {row['saliency']}, moments {tokens}"


def _print(bars: Bars, rows: list[dict[str, Any]], shapes: dict[str, list[dict[str, Any]]]) -> None:
    header = ["recorded", "ratio", "quartiles", "of sums", "without events", "event, s"]
    keys = ("ratio", "ratio_quartiles", "ratio_of_sums", "ratio_without_events", "event_seconds")
    bars.table(header, [[_label(row), *(str(row[key]) for key in keys)] for row in rows])
    speeds = [
        [f"{shape['parameters']:,} {name}", str(shape["tokens_per_second"])]
        for name, found in shapes.items()
        for shape in found
    ]
    bars.table(["parameters", "tokens/s"], speeds)


def draw(figures: dict[str, Any], path: Path) -> None:
    """Ratios with their quartiles, and speed against parameters."""
    figure, (ratios, speeds) = new_figure(12, 4, 2)
    rows = figures["rows"]
    for place, row in enumerate(reversed(rows)):
        low, middle, high = row["ratio_quartiles"]
        color = "#059669" if middle <= MARK else "#d97706"
        ratios.barh(place, middle - 1, left=1, color=color, xerr=[[middle - low], [high - middle]], capsize=3)
    ratios.set_yticks(range(len(rows)), [_label(row) for row in reversed(rows)], fontsize="small")
    ratios.axvline(MARK, color="#6b7280", linestyle="--")
    ratios.set_xlabel("pruning-aware step / dense step, median and quartiles")
    for name, shapes in figures["shapes"].items():
        parameters = [shape["parameters"] / 1e6 for shape in shapes]
        speeds.plot(parameters, [shape["tokens_per_second"] for shape in shapes], marker="o", label=f"widths {name}")
    speeds.invert_xaxis()
    speeds.set_ylim(bottom=0)
    speeds.set_xlabel("parameters left, millions")
    speeds.set_ylabel("training tokens per second, dense steps")
    speeds.legend(fontsize="small")
    save_figure(figure, [ratios, speeds], path)


def main() -> None:
    """Measure, draw, report."""
    parser = options(__doc__, cached=False)
    parser.add_argument("--memory", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    job = job_of(NAME, arguments, SCALES)
    if arguments.memory is not None:
        print(json.dumps(memory_of(job, arguments.memory)))
        return
    # First, as a process's peak on Linux begins with that of the one that started it.
    with Bars(len(KINDS)) as bars:
        memory: dict[str, float] = {}
        for kind in KINDS:
            with bars.run(f"peak memory, {kind} steps"):
                memory[kind] = memory_in_fresh_process(job, kind)
    figures, holds = measure(job, memory)
    draw(figures, RESULTS / f"{report_name(NAME)}.png")
    finish(NAME, holds, figures)


if __name__ == "__main__":
    main()
