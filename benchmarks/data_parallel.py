"""What the sum of gradients costs a step of pretraining on 8 and 64 GPUs: arithmetic from one GPU that was measured.

    python -m benchmarks.data_parallel

Nothing is measured here but what `benchmarks/results/pruning_overhead_cuda.json` has of one GPU. The rest is assumed,
and every assumption is a constant below. Ranks sum float32 gradients after the last micro-batch of a step, none of it
while the backward pass still runs (`tools/ranks.py`); so that a step takes the micro-batches' time and the sum's.
"""

import json
from dataclasses import dataclass

from benchmarks.outcome import RESULTS

BYTES = 4
"""Of a gradient."""
GPUS_PER_NODE = 8
LINKS = {
    "8 GPUs, NVLink": (8, 300e9, None),
    "64 GPUs, InfiniBand": (64, 300e9, 40e9 * GPUS_PER_NODE),
    "64 GPUs, 100 Gb Ethernet": (64, 300e9, 11e9),
}
"""GPUs; bytes a second that a GPU sends to another one of its node; and that a node sends to another one. Assumed: two
thirds of NVLink's 450 GB/s, 80 % of 400 Gb/s for each GPU, 88 % of 100 Gb/s for each node."""
SPEED_1700M = 350e12
"""Floating-point operations a second of a GPU that trains 1.7B parameters in bfloat16. Assumed: 35 % of an H200."""
OPERATIONS = 6
"""For each parameter and token, forward and backward."""


@dataclass(frozen=True)
class Case:
    """A model on one GPU: parameters, tokens of a micro-batch, seconds that it takes."""

    name: str
    parameters: int
    tokens: int
    seconds: float


def cases() -> list[Case]:
    """SmolLM2-135M as measured, SmolLM2-1.7B as assumed."""
    figures = json.loads((RESULTS / "pruning_overhead_cuda.json").read_text())["figures"]
    measured = figures["rows"][0]["dense_seconds"][1]
    small = figures["shapes"]["as dropped"][0]["parameters"]
    tokens, large = 8192, 1_711_376_384
    return [
        Case("135M", small, figures["micro_batch_size"] * figures["block_length"], measured),
        Case("1.7B", large, tokens, OPERATIONS * large * tokens / SPEED_1700M),
    ]


def sum_seconds(parameters: int, gpus: int, within: float, between: float | None) -> float:
    """A ring in each node, then one over the nodes: each sends 2 (n - 1) / n of what it sums."""
    size, here = parameters * BYTES, min(gpus, GPUS_PER_NODE)
    seconds = 2 * (here - 1) / here * size / within
    if between is not None:
        nodes = gpus // GPUS_PER_NODE
        # The GPUs of a node send an equal share of the sum each, over what the node has.
        seconds += 2 * (nodes - 1) / nodes * size / between
    return seconds


def main() -> None:
    """Print the table of docs/scaling.md."""
    print("| model | micro-batch on one GPU | gradients | GPUs | sum | faster, 1 micro-batch | faster, 8 |")
    print("|---|---|---|---|---|---|---|")
    for case in cases():
        for name, (gpus, within, between) in LINKS.items():
            seconds = sum_seconds(case.parameters, gpus, within, between)
            faster = [gpus * count * case.seconds / (count * case.seconds + seconds) for count in (1, 8)]
            row = [
                case.name,
                f"{case.tokens:,} tokens in {1000 * case.seconds:.0f} ms",
                f"{case.parameters * BYTES / 1e9:.2f} GB",
                name,
                f"{1000 * seconds:.0f} ms",
                *(f"{one:.1f} x" for one in faster),
            ]
            print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
