"""Whether growing in bfloat16 follows growing in float32, and what bfloat16 leaves of a model that was grown.

    python -m benchmarks.precision            # SmolLM2-135M to 85 % of its parameters
    python -m benchmarks.precision --quick    # fewer tokens

The same run twice, step by step. In bfloat16 only the matrix products are; weights, gradients, optimiser states,
saliency and the repair's moments are float32 in both (`tools/pretraining/compute.py`). Both runs see the same batches
and end at the same size; what each drops is its own saliency's choice, so that the designs may differ a little, as the
losses do.

The source lies on the grid of bfloat16, as most do, and a short training changes most weights by less than a step of
it. Products in bfloat16 do not see that part, so training losses are too high in bfloat16. Held-out text is therefore
measured in float32; `as_bfloat16` says what the result of each run has there with its weights in bfloat16: rounded to
nearest and, as exports and evaluations do it, stochastically (`tools/rounding.py`).

`holds`: the mean losses of the last tenth of the steps differ by no more than 0.01 nats per token, and so do the
validation losses of the results, and those of each result with stochastically rounded weights from its own.
`validation_error` is the standard error of the difference of the results over the held-out blocks. Finished and
interrupted runs are kept and gone on with; see --fresh.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from benchmarks.growing import Bars, Job, Scale, Scales, grow, job_of, new_figure, options, planned, save_figure
from benchmarks.outcome import RESULTS, finish, report_name
from tools.evaluation.paired import paired_difference
from tools.pretrain import LOG_FILE, PretrainRequest
from tools.settings import Recipe

NAME = "precision"
KEPT = 0.85
MARK = 0.01
PRECISIONS: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
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
    """The mean over the last tenth of the steps."""
    return fmean(losses[-max(1, len(losses) // 10) :])


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


def measure(job: Job, kept: float = KEPT) -> tuple[dict[str, Any], bool]:
    """Both runs, their differences, and whether they are within the mark."""
    from tools.sources import resolve_source

    size = resolve_source(job.source, cache=job.cache / "sources").architecture.parameters
    default: Recipe = PretrainRequest.model_fields["recipe"].default
    steps = job.scale.tokens // job.scale.step_tokens
    sizes = {
        "batch_size": job.scale.batch,
        "micro_batch_size": job.scale.micro_batch,
        "warmup_steps": max(1, steps // 5),
    }
    runs: dict[str, dict[str, Any]] = {}
    blocks: list[Sequence[float]] = []
    with Bars(len(PRECISIONS)) as bars:
        for precision in PRECISIONS:
            recipe = default.model_copy(update={**sizes, "precision": precision})
            request = planned(job, target_parameters=round(kept * size), recipe=recipe)
            grown = grow(request, bars, precision, keep_model=True)
            losses = losses_of(grown.folder / LOG_FILE)
            result = grown.result
            blocks.append(grown.block_losses or ())
            runs[precision] = {
                "losses": [round(loss, 5) for loss in losses],
                "end": round(end_of(losses), 5),
                "loss": None if result.loss is None else round(result.loss, 5),
                "parameters": result.parameters,
                "design": result.architecture.describe(),
                "as_bfloat16": None if result.model is None else as_bfloat16(result.model, request, job),
                "seconds": round(result.seconds, 1),
            }
    exact, rounded = (runs[precision] for precision in PRECISIONS)
    steps_apart = [abs(one - other) for one, other in zip(exact["losses"], rounded["losses"], strict=True)]
    finite = exact["loss"] is not None and rounded["loss"] is not None
    paired = paired_difference(blocks[1], blocks[0])
    differences = {
        "largest_of_a_step": round(max(steps_apart), 5),
        "mean_of_steps": round(fmean(steps_apart), 5),
        "end": round(rounded["end"] - exact["end"], 5),
        "validation": round(rounded["loss"] - exact["loss"], 5) if finite else None,
        "validation_error": None if paired is None or paired.error is None else round(paired.error, 5),
    }
    figures = {**job.facts(), "tokens": job.scale.tokens, "kept": kept, "seeds": [0], "mark": MARK}
    figures |= {"runs": runs, "bfloat16_less_float32": differences}
    kept_apart = [run["loss"] - run["as_bfloat16"]["stochastic"] for run in runs.values()] if finite else []
    return figures, finite and max(map(abs, [differences["end"], differences["validation"], *kept_apart])) <= MARK


def draw(figures: dict[str, Any], path: Path) -> None:
    """Both curves, and their difference beside them."""
    figure, (curves, difference) = new_figure(11, 4, 2)
    runs = figures["runs"]
    for precision, style in zip(PRECISIONS, ("-", "--"), strict=True):
        curves.plot(runs[precision]["losses"], style, linewidth=1, label=precision)
    curves.set_xlabel("optimiser steps")
    curves.set_ylabel("training loss, nats per token")
    curves.legend(fontsize="small")
    exact, rounded = (runs[precision]["losses"] for precision in PRECISIONS)
    difference.plot([other - one for one, other in zip(exact, rounded, strict=True)], linewidth=1, color="#111827")
    difference.axhspan(-MARK, MARK, color="#059669", alpha=0.15)
    difference.set_xlabel("optimiser steps")
    difference.set_ylabel("bfloat16 less float32 (green: the mark)")
    save_figure(figure, [curves, difference], path)


def main() -> None:
    """Measure, draw, report."""
    job = job_of(NAME, options(__doc__).parse_args(), SCALES)
    figures, holds = measure(job)
    draw(figures, RESULTS / f"{report_name(NAME)}.png")
    finish(NAME, holds, figures)


if __name__ == "__main__":
    main()
