"""Whether growing in bfloat16 follows growing in float32, and what bfloat16 leaves of a model that was grown.

    python -m benchmarks.precision            # SmolLM2-135M to 85 % of its parameters
    python -m benchmarks.precision --quick    # fewer tokens

The same run twice, step by step. In bfloat16 only the matrix products are; weights, gradients, optimiser states,
saliency and the repair's moments are float32 in both (`tools/pretraining/compute.py`). Both runs see the same batches
and end at the same size; what each drops is its own saliency's choice, so that the designs may differ a little, as the
losses do.

The source lies on the grid of bfloat16, as most do, and a short training changes most weights by less than a step of
it. Products in bfloat16 with weights rounded to nearest do not see that part, so training rounds them stochastically,
anew for each step (`tools/pretraining/step_rounding.py`). It matters most where steps are few and small: `small_steps`
is a second pair of runs, as the quick preset of a search trains: 24 steps of half the tokens of one, a block at a time,
the first 12 as warm-up, on CPython's documentation. There, so that it is seen what the rounding is worth, is a third
run, `nearest`, which leaves the rounding to autocast.

Held-out text is measured in float32; `as_bfloat16` says what the result of each run has there with its weights in
bfloat16: rounded to nearest and, as exports and evaluations do it, stochastically (`tools/rounding.py`).

`holds`, of both pairs: the mean losses of the last steps (a tenth, at least 8, as those of one step differ by chance)
differ by no more than 0.01 nats per token, and so do the validation losses of the results, and those of each result
with stochastically rounded weights from its own.
`validation_error` is the standard error of the difference of the results over the held-out blocks. Finished and
interrupted runs are kept and gone on with; see --fresh.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal
from unittest.mock import patch

from benchmarks.growing import Bars, Job, Scale, Scales, grow, job_of, new_figure, options, planned, save_figure
from benchmarks.outcome import RESULTS, finish, report_name
from tools.evaluation.paired import paired_difference
from tools.pretrain import LOG_FILE, PretrainRequest
from tools.settings import Recipe

NAME = "precision"
KEPT = 0.85
MARK = 0.01
SMALL_STEPS = 24
SMALL_CORPUS = "python-docs"
LAST_STEPS = 8
Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
SCALES: Scales = {
    ("cpu", True): Scale(tokens=15_360, batch=4, micro_batch=4, block=256, validation_tokens=4096),
    ("cpu", False): Scale(tokens=65_536, batch=4, micro_batch=4, block=256, validation_tokens=16_384),
    ("cuda", True): Scale(tokens=327_680, batch=16, micro_batch=16, block=512, validation_tokens=65_536),
    ("cuda", False): Scale(tokens=1_310_720, batch=16, micro_batch=16, block=512, validation_tokens=131_072),
}


def losses_of(log: Path) -> list[float]:
    """The training loss of every step in the log of a run, nats per token."""
    with log.open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    return [line["loss"] for line in lines if "event" not in line]


def end_of(losses: Sequence[float]) -> float:
    """The mean over the last tenth of the steps, and over 8 of them at least."""
    return fmean(losses[-max(LAST_STEPS, len(losses) // 10) :])


def as_bfloat16(model: Path, request: PretrainRequest, job: Job) -> dict[str, float]:
    """The loss on held-out text of the weights in the folder `model` as they are in bfloat16, products in float32."""
    import torch

    from tools.evaluation.perplexity import validation_loss
    from tools.pretraining.compute import choose_compute
    from tools.pretraining.corpus import prepare_corpus
    from tools.rounding import round_weights
    from tools.sources import load_model

    # As growing packs it, so it is there already.
    data = request.data.model_copy(update={"training_tokens": max(request.tokens, request.data.block_length)})
    held_out = prepare_corpus(request.corpus, model, data, job.cache / "corpora").validation
    found = {}
    for rounding in ("nearest", "stochastic"):
        loaded = load_model(model)
        if rounding == "stochastic":
            round_weights(loaded)
        else:
            with torch.no_grad():
                for parameter in loaded.parameters():
                    parameter.copy_(parameter.bfloat16())
        choose_compute().place(loaded)
        found[rounding] = round(validation_loss(loaded, held_out, job.scale.micro_batch), 5)
    return found


def measure(job: Job, kept: float = KEPT, small_corpus: str = SMALL_CORPUS) -> tuple[dict[str, Any], bool]:
    """All runs, their differences, and whether those of the two pairs are within the mark."""
    from tools.pretraining.step_rounding import StepRounding

    small = with_small_steps(job, small_corpus)
    steps = job.scale.tokens // job.scale.step_tokens
    warmups = {job: max(1, steps // 5), small: SMALL_STEPS // 2}
    with Bars(2 * len(PRECISIONS) + 1) as bars:
        pair, small_pair = (
            {name: run_of(each, warmup, kept, bars, name) for name in PRECISIONS} for each, warmup in warmups.items()
        )
        with patch.object(StepRounding, "at", lambda self, step: nullcontext()):
            nearest = run_of(small, warmups[small], kept, bars, "bfloat16", "nearest")
    apart, small_apart = (difference(*runs.values()) for runs in (pair, small_pair))
    figures = {**job.facts(), "tokens": job.scale.tokens, "kept": kept, "seeds": [0], "mark": MARK}
    figures |= {"runs": shown(pair), "bfloat16_less_float32": apart}
    figures["small_steps"] = {
        **small.facts(),
        "tokens": small.scale.tokens,
        "runs": shown({**small_pair, "nearest": nearest}),
        "bfloat16_less_float32": small_apart,
        "nearest_less_float32": difference(small_pair["float32"], nearest),
    }
    holds = follows(apart, pair.values()) and follows(small_apart, small_pair.values())
    return figures, holds


def with_small_steps(job: Job, corpus: str) -> Job:
    """`job` on `corpus` with 24 optimiser steps of half its size, in which each backward pass is of one block."""
    scale = replace(job.scale, batch=max(1, job.scale.batch // 2), micro_batch=1)
    return replace(job, corpus=corpus, scale=replace(scale, tokens=SMALL_STEPS * scale.step_tokens))


def run_of(job: Job, warmup: int, kept: float, bars: Bars, precision: Precision, rounding: str = "") -> dict[str, Any]:
    """The figures of one run, with the loss of each held-out block; `rounding` names one that is not the default."""
    from tools.sources import resolve_source

    size = resolve_source(job.source, cache=job.cache / "sources").architecture.parameters
    default: Recipe = PretrainRequest.model_fields["recipe"].default
    steps = job.scale.tokens // job.scale.step_tokens
    changes = {
        "batch_size": job.scale.batch,
        "micro_batch_size": job.scale.micro_batch,
        "warmup_steps": warmup,
        "precision": precision,
    }
    request = planned(job, target_parameters=round(kept * size), recipe=default.model_copy(update=changes))
    if rounding:
        request = request.model_copy(update={"output": request.output.with_name(f"{request.output.name}_{rounding}")})
    label = f"{precision}{f', {rounding}' if rounding else ''}: {steps} steps of {job.scale.step_tokens} tokens"
    grown = grow(request, bars, label, keep_model=True)
    losses, result = losses_of(grown.folder / LOG_FILE), grown.result
    return {
        "losses": [round(loss, 5) for loss in losses],
        "end": round(end_of(losses), 5),
        "loss": None if result.loss is None else round(result.loss, 5),
        "parameters": result.parameters,
        "design": result.architecture.describe(),
        "as_bfloat16": None if result.model is None else as_bfloat16(result.model, request, job),
        "seconds": round(result.seconds, 1),
        "block_losses": grown.block_losses or (),
    }


def difference(exact: dict[str, Any], rounded: dict[str, Any]) -> dict[str, float | None]:
    """How far `rounded` is from `exact`, nats per token."""
    steps_apart = [abs(one - other) for one, other in zip(exact["losses"], rounded["losses"], strict=True)]
    finite = exact["loss"] is not None and rounded["loss"] is not None
    paired = paired_difference(rounded["block_losses"], exact["block_losses"])
    return {
        "largest_of_a_step": round(max(steps_apart), 5),
        "mean_of_steps": round(fmean(steps_apart), 5),
        "end": round(rounded["end"] - exact["end"], 5),
        "validation": round(rounded["loss"] - exact["loss"], 5) if finite else None,
        "validation_error": None if paired is None or paired.error is None else round(paired.error, 5),
    }


def follows(apart: dict[str, float | None], runs: Iterable[dict[str, Any]]) -> bool:
    """Whether the runs are within the mark of each other, and each with stochastically rounded weights of itself."""
    if apart["end"] is None or apart["validation"] is None:
        return False
    kept_apart = [run["loss"] - run["as_bfloat16"]["stochastic"] for run in runs]
    return max(map(abs, [apart["end"], apart["validation"], *kept_apart])) <= MARK


def shown(runs: dict[Any, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What a report says of each run."""
    return {name: {key: value for key, value in run.items() if key != "block_losses"} for name, run in runs.items()}


def draw(figures: dict[str, Any], path: Path) -> None:
    """Both curves of each pair, and their differences beside them."""
    pairs = (figures, figures["small_steps"])
    figure, axes = new_figure(14, 4, 3)
    apart = axes[2]
    for curves, pair, colours in zip(axes[:2], pairs, (("#111827",), ("#2563eb", "#dc2626")), strict=True):
        exact = pair["runs"]["float32"]["losses"]
        curves.plot(exact, linewidth=1, label="float32")
        others = {name: run["losses"] for name, run in pair["runs"].items() if name != "float32"}
        for (name, losses), colour in zip(others.items(), colours, strict=True):
            label = "bfloat16, weights rounded to nearest" if name == "nearest" else name
            curves.plot(losses, "--", linewidth=1, label=label)
            differences = [other - one for one, other in zip(exact, losses, strict=True)]
            apart.plot(differences, linewidth=1, color=colour, label=f"{label}, {_step_of(pair)}")
        curves.set_title(_step_of(pair), fontsize="small")
        curves.set_xlabel("optimiser steps")
        curves.set_ylabel("training loss, nats per token")
        curves.legend(fontsize="small")
    apart.axhspan(-MARK, MARK, color="#059669", alpha=0.15)
    apart.set_xlabel("optimiser steps")
    apart.set_ylabel("less float32 (green: the mark)")
    apart.legend(fontsize="x-small")
    save_figure(figure, axes, path)


def _step_of(pair: dict[str, Any]) -> str:
    return f"steps of {pair['batch_size'] * pair['block_length']:,} tokens"


def main() -> None:
    """Measure, draw, report."""
    job = job_of(NAME, options(__doc__).parse_args(), SCALES)
    figures, holds = measure(job)
    draw(figures, RESULTS / f"{report_name(NAME)}.png")
    finish(NAME, holds, figures)


if __name__ == "__main__":
    main()
