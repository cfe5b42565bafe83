"""What keeping freed memory saves: training steps with and without it, in turn, on one model.

    python -m benchmarks.freed_memory            # 12 steps of each kind
    python -m benchmarks.freed_memory --quick    # 6

glibc gives the large blocks that a step frees back to the system, and the next step faults them in again page by page.
`tools/freed_memory.py` keeps them while Penjing trains or measures. Steps come in runs of three of one kind, the first
of which is not counted, as a run begins with what the one before left. Peak memory is that of a fresh process for each
kind. On a GPU the memory of a step is not glibc's, and the ratio is near 1.

`holds`: the median step is faster with it, and the losses are the same to the last bit as those of steps without.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

from benchmarks.growing import Bars, Job, Scale, Scales, job_of, new_figure, options, save_figure
from benchmarks.outcome import RESULTS, finish, report_name
from tools.freed_memory import freed_memory_kept
from tools.pretrain import PretrainRequest

NAME = "freed_memory"
RUN = 3
SCALES: Scales = {
    ("cpu", True): Scale(tokens=2 * 6 * 1024, batch=4, micro_batch=4, block=256),
    ("cpu", False): Scale(tokens=2 * 12 * 1024, batch=4, micro_batch=4, block=256),
    ("cuda", True): Scale(tokens=2 * 6 * 16_384, batch=16, micro_batch=16, block=1024),
    ("cuda", False): Scale(tokens=2 * 12 * 16_384, batch=16, micro_batch=16, block=1024),
}

Kind = Literal["given back", "kept"]
KINDS: tuple[Kind, ...] = ("given back", "kept")


class Steps:
    """Dense training steps of a fresh model of the source."""

    def __init__(self, job: Job) -> None:
        from tools.pretraining.compute import choose_compute
        from tools.pretraining.corpus import prepare_corpus
        from tools.pretraining.trainer import Trainer
        from tools.sources import load_model, resolve_source

        source = resolve_source(job.source, cache=job.cache / "sources")
        data = job.scale.data.model_copy(update={"training_tokens": job.scale.tokens})
        blocks = prepare_corpus(job.corpus, source.path, data, job.cache / "corpora").train
        default = PretrainRequest.model_fields["recipe"].default
        sizes = {"batch_size": job.scale.batch, "micro_batch_size": job.scale.micro_batch}
        model, compute = load_model(source.path), choose_compute()
        compute.place(model)
        self.trainer: Trainer = Trainer(model, blocks, default.model_copy(update=sizes), compute, seed=0)

    def run(self, kind: Kind) -> list[tuple[float, int]]:
        """Seconds and page faults of each step of a run but the first."""
        found, last = [], _now()

        def step(phase: str, done: int, total: int, loss: float) -> None:
            nonlocal last
            now = _now()
            found.append((now[0] - last[0], now[1] - last[1]))
            last = now

        with freed_memory_kept() if kind == "kept" else nullcontext():
            self.trainer.train(RUN, kind, step)
        return found[1:]


def _now() -> tuple[float, int]:
    return time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def peak_of(job: Job, kind: Kind) -> float:
    """Peak megabytes of a process that takes one run of steps."""
    from tools.memory_use import peak_memory_mb

    Steps(job).run(kind)
    return peak_memory_mb()


def peak_in_fresh_process(kind: Kind, asked: list[str]) -> float:
    """The same, of a process that does nothing else; `asked` are this process's options."""
    command = [sys.executable, "-m", f"benchmarks.{NAME}", "--peak", kind, *asked]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[1])
    return float(json.loads(done.stdout.splitlines()[-1]))


def losses_of(job: Job, kind: Kind) -> list[float]:
    """Losses of one run of steps of a fresh model."""
    steps = Steps(job)
    steps.run(kind)
    return steps.trainer.losses


def measure(job: Job, bars: Bars) -> tuple[dict[str, Any], bool]:
    """Seconds and faults of both kinds, and whether the marks hold."""
    per_kind = job.scale.tokens // (2 * job.scale.step_tokens)
    found: dict[Kind, list[tuple[float, int]]] = {kind: [] for kind in KINDS}
    with bars.run("steps of both kinds in turn"):
        steps = Steps(job)
        # What a first step sets up is neither kind's.
        steps.run("given back")
        while len(found["kept"]) < per_kind:
            for kind in KINDS:
                found[kind] += steps.run(kind)
    with bars.run("losses of both kinds"):
        same = losses_of(job, "given back") == losses_of(job, "kept")
    seconds = {kind: [round(pair[0], 4) for pair in found[kind]] for kind in KINDS}
    faults = {kind: round(statistics.median(pair[1] for pair in found[kind])) for kind in KINDS}
    medians = {kind: statistics.median(seconds[kind]) for kind in KINDS}
    figures = {
        **job.facts(),
        "seeds": [0],
        "seconds": seconds,
        "median_seconds": medians,
        "ratio": round(medians["kept"] / medians["given back"], 4),
        "page_faults_of_a_step": faults,
        "same_losses": same,
    }
    return figures, same and medians["kept"] < medians["given back"]


def draw(figures: dict[str, Any], path: Path) -> None:
    """Every step, and the medians."""
    figure, (panel,) = new_figure(6, 3.6, 1)
    for kind, color in zip(KINDS, ("#9ca3af", "#059669"), strict=True):
        seconds = figures["seconds"][kind]
        panel.plot(range(1, len(seconds) + 1), seconds, "o", color=color, label=kind)
        panel.axhline(figures["median_seconds"][kind], color=color, linestyle="--")
    panel.set_ylim(bottom=0)
    panel.set_xlabel("step of its kind")
    panel.set_ylabel("seconds")
    panel.legend(title="freed memory is")
    save_figure(figure, [panel], path)


def main() -> None:
    """Measure, draw, report."""
    parser = options(__doc__, cached=False)
    parser.add_argument("--peak", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    job = job_of(NAME, arguments, SCALES)
    if arguments.peak is not None:
        print(json.dumps(peak_of(job, arguments.peak)))
        return
    with Bars(len(KINDS) + 2) as bars:
        peaks = {}
        for kind in KINDS:
            with bars.run(f"peak memory, {kind}"):
                peaks[kind] = round(peak_in_fresh_process(kind, sys.argv[1:]), 1)
        figures, holds = measure(job, bars)
    figures["peak_memory_mb"] = peaks
    draw(figures, RESULTS / f"{report_name(NAME)}.png")
    finish(NAME, holds, figures)


if __name__ == "__main__":
    main()
