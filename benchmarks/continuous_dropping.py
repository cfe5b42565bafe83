"""Dropping one channel every N steps: parameters against tokens for N = 1 and N = 2, and the design that comes out.

    python -m benchmarks.continuous_dropping            # SmolLM2-135M down to 85 % of its parameters
    python -m benchmarks.continuous_dropping --quick    # to 92 %

The paper's Fig. 2(c) and A0 (EfficientLLM, arXiv 2502.06663) at small scale: all layers alike, one channel an event,
the type chosen by the lowest curve. An optimiser step is one block of 128 tokens on a CPU. Each run gets the tokens
that dropping takes if only FFN channels go, the slowest way down; once the target is reached it trains on.

`holds`: N = 2 takes 1.8 to 2.2 times the tokens of N = 1 from the first event to the last (the paper: 16.1 B against
7.6 to 8.1 B); every event removed the type whose least salient group was lowest; and the sum of what the events removed
is exactly what the exported model lacks. Finished and interrupted runs are kept and gone on with; see --fresh.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.growing import Bars, Grown, Job, Scale, Scales, grow, job_of, new_figure, options, planned, save_figure
from benchmarks.outcome import RESULTS, finish, report_name
from tools.architecture import Architecture
from tools.errors import InputError
from tools.pretrain import PretrainRequest, PretrainResult
from tools.pruning.drop_event import DropEvent
from tools.pruning.groups import PRUNING_TYPES, PruningType, ffn_channel_cost, stem_channel_cost
from tools.settings import Recipe, WidthSettings

NAME = "continuous_dropping"
INTERVALS = (1, 2)
PAPER_RATIOS = (16.1 / 8.1, 16.1 / 7.6)
MARK = (1.8, 2.2)
WARMUP_STEPS = 12
WIDTHS = WidthSettings(uniform=True, ffn_multiple=1, hidden_multiple=1)
# Tokens here are only a placeholder: the default is what dropping takes at most.
SCALES: Scales = {
    ("cpu", True): Scale(tokens=0, batch=1, micro_batch=1, block=128, validation_tokens=4096),
    ("cpu", False): Scale(tokens=0, batch=1, micro_batch=1, block=128),
    ("cuda", True): Scale(tokens=0, batch=8, micro_batch=2, block=512, validation_tokens=32_768),
    ("cuda", False): Scale(tokens=0, batch=8, micro_batch=2, block=512, validation_tokens=65_536),
}
_POINTS = 60


def recipe_for(scale: Scale) -> Recipe:
    """The default recipe at this batch; small steps get a small learning rate, as the root of their tokens."""
    default: Recipe = PretrainRequest.model_fields["recipe"].default
    sizes = {
        "warmup_steps": WARMUP_STEPS,
        "batch_size": scale.batch,
        "micro_batch_size": scale.micro_batch,
        "learning_rate": round(1e-4 * min(1.0, math.sqrt(scale.step_tokens / 1024)), 7),
        # A cut moves all weights in memory, which takes longer than such a small step; a mask does not.
        "compact_every": 16,
    }
    return default.model_copy(update=sizes)


def most_channel_units(source: Architecture, target_parameters: int) -> int:
    """Channel units that the slowest mix of stem and FFN channels takes to the target, all layers alike.

    A head counts head_dim units and frees more parameters for each than FFN channels do.
    """
    depth, smallest = len(source.layers), min(layer.intermediate_size for layer in source.layers)
    most = 0
    for stem in range(source.hidden_size):
        narrowed = source.model_copy(update={"hidden_size": source.hidden_size - stem})
        left = source.parameters - stem * stem_channel_cost(source).parameters - target_parameters
        channels = math.ceil(max(0, left) / (depth * ffn_channel_cost(narrowed).parameters))
        if channels < smallest:
            most = max(most, 2 * stem + channels)
        if left <= 0:
            break
    return most


def violations(events: Sequence[DropEvent]) -> int:
    """Events that removed anything but the one type whose least salient group was the lowest."""
    wrong = 0
    for event in events:
        removed = [kind for kind in PRUNING_TYPES if event.removed[kind]]
        offered = {kind: value for kind, value in event.least_saliency.items() if value is not None}
        wrong += len(removed) != 1 or offered.get(removed[0], math.inf) > min(offered.values())
    return wrong


def replayed(source: Architecture, events: Sequence[DropEvent]) -> list[Architecture]:
    """`source`, and what it becomes as each event takes its groups, all layers alike."""
    designs, depth = [source], len(source.layers)
    for event in events:
        layers = []
        for shape in designs[-1].layers:
            ratio = shape.num_attention_heads // shape.num_key_value_heads
            heads = shape.num_attention_heads - event.removed["attention"] // depth
            changed = {
                "num_attention_heads": heads,
                "num_key_value_heads": heads // ratio,
                "intermediate_size": shape.intermediate_size - event.removed["ffn"] // depth,
            }
            layers.append(shape.model_copy(update=changed))
        hidden = designs[-1].hidden_size - event.removed["stem"]
        designs.append(Architecture(fixed=source.fixed, hidden_size=hidden, layers=tuple(layers)))
    return designs


def adds_up(source: Architecture, events: Sequence[DropEvent], result: PretrainResult, written: int | None) -> bool:
    """Whether the groups that the events removed account for every parameter that the result and its files lack."""
    designs = replayed(source, events)
    counted = [design.parameters for design in designs[1:]] == [event.parameters for event in events]
    return counted and designs[-1] == result.architecture and designs[-1].parameters == result.parameters == written


def file_parameters(folder: Path) -> int:
    """Parameters in the weights' files of an exported model."""
    from safetensors import safe_open

    total = 0
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(str(file), framework="np") as tensors:
            total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return total


def dropping_tokens(events: Sequence[DropEvent], target_parameters: int) -> int | None:
    """Tokens from the first event to the one that reached the target; None where none did."""
    if not events or events[-1].parameters > target_parameters:
        return None
    return events[-1].tokens - events[0].tokens


def ratio_of(runs: dict[int, int | None]) -> float | None:
    """Tokens of dropping at N = 2 over those at N = 1; None where one did not arrive or had a single event."""
    one, two = (runs[n] for n in INTERVALS)
    return None if not one or two is None else two / one


def measure(job: Job, keep: float, tokens: int | None, pictures: Path) -> tuple[dict[str, Any], bool]:
    """Both runs, their figures and whether the marks hold; pictures go to the folder `pictures`.

    `keep` is the share of the parameters that stays, `tokens` the budget at N = 1, twice that at N = 2.
    """
    from tools.sources import resolve_source

    with Bars(len(INTERVALS)) as bars:
        source = resolve_source(job.source, cache=job.cache / "sources").architecture
        if not source.is_homogeneous:
            raise InputError("The layers of the source differ in shape: this benchmark drops from equal layers.")
        target = round(keep * source.parameters)
        runs = {n: grow(request_for(job, source, target, n, tokens), bars, f"N = {n}", True) for n in INTERVALS}
        rows = [_row(n, run, source, target) for n, run in runs.items()]
        bars.table(
            ["N", "tokens of dropping", "events", "parameters", "loss before", "loss after"],
            [[str(row[key]) for key in ("n", "dropping_tokens", "events", "parameters", "source_loss", "loss")]
             for row in rows],
        )  # fmt: skip
    ratio = ratio_of({row["n"]: row["dropping_tokens"] for row in rows})
    _draw({n: run.events for n, run in runs.items()}, source, target, pictures)
    figures = {
        **job.facts(),
        "seeds": [0],
        "source_parameters": source.parameters,
        "target_parameters": target,
        "recipe": recipe_for(job.scale).model_dump(mode="json", exclude={"training_steps", "drops"}),
        "runs": rows,
        "ratio": None if ratio is None else round(ratio, 4),
        "ratio_mark": list(MARK),
        "ratio_paper": [round(value, 2) for value in PAPER_RATIOS],
    }
    arrived = ratio is not None and MARK[0] <= ratio <= MARK[1]
    return figures, arrived and all(row["violations"] == 0 and row["exact"] for row in rows)


def request_for(job: Job, source: Architecture, target: int, n: int, tokens: int | None) -> PretrainRequest:
    """The run with one event every `n` steps."""
    steps = WARMUP_STEPS + n * most_channel_units(source, target) + 1
    return planned(
        job,
        tokens=steps * job.scale.step_tokens if tokens is None else n * tokens,
        target_parameters=target,
        every=n,
        widths=WIDTHS,
        recipe=recipe_for(job.scale),
    )


def _row(n: int, run: Grown, source: Architecture, target: int) -> dict[str, Any]:
    result, events = run.result, run.events
    written = None if result.model is None else file_parameters(result.model)
    dropping = dropping_tokens(events, target)
    groups: dict[PruningType, int] = {kind: sum(event.removed[kind] for event in events) for kind in PRUNING_TYPES}
    return {
        "n": n,
        "tokens": result.tokens,
        "tokens_to_target": None if dropping is None else events[-1].tokens,
        "dropping_tokens": dropping,
        "events": len(events),
        "events_by_type": {kind: sum(bool(event.removed[kind]) for event in events) for kind in PRUNING_TYPES},
        "groups_removed": groups,
        "violations": violations(events),
        "parameters": result.parameters,
        "parameters_written": written,
        "exact": adds_up(source, events, result, written),
        "shape": result.architecture.describe(),
        "source_loss": None if result.source_loss is None else round(result.source_loss, 4),
        "loss": None if result.loss is None else round(result.loss, 4),
        "seconds": round(result.seconds, 1),
        "curve": [[event.tokens, event.parameters] for event in events[:: max(1, len(events) // _POINTS)]],
    }


def _draw(runs: dict[int, tuple[DropEvent, ...]], source: Architecture, target: int, folder: Path) -> None:
    """The paper's figure (c), and the auto-design figure of the run with N = 1."""
    from tools.pretraining.design_picture import draw_design

    figure, axes = new_figure(6.5, 4)
    for n, events in runs.items():
        tokens = [0, *(event.tokens for event in events)]
        parameters = [source.parameters, *(event.parameters for event in events)]
        axes[0].step(tokens, [value / 1e6 for value in parameters], where="post", label=f"N = {n}")
    axes[0].axhline(target / 1e6, color="#6b7280", linestyle="--", label="target")
    axes[0].set_xlabel("training tokens")
    axes[0].set_ylabel("parameters, millions")
    axes[0].set_title("One channel every N steps, all layers alike")
    axes[0].legend(fontsize="small")
    save_figure(figure, axes, folder / f"{report_name(NAME)}.png")
    if runs[INTERVALS[0]]:
        draw_design(runs[INTERVALS[0]], folder / f"{report_name(NAME)}_design.png")


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def main() -> None:
    """Measure, draw, report."""
    parser = options(__doc__)
    parser.add_argument("--keep", type=_share, help="share of the parameters that stays; default 0.85, quick 0.92")
    arguments = parser.parse_args()
    job = job_of(NAME, arguments, SCALES)
    keep = arguments.keep or (0.92 if arguments.quick else 0.85)
    figures, holds = measure(job, keep, arguments.tokens, RESULTS)
    finish(NAME, holds, figures)


if __name__ == "__main__":
    main()
