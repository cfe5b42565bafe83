"""What a model costs on a device: its counts, its file sizes, and its speed and memory on this processor.

Nothing but counts and predicted sizes is computed; times and memory are measured, each engine and format in a fresh
process (`tools.evaluation.speed_process`).
"""

import gc
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tools.errors import InputError
from tools.evaluation.edge_figures import EdgeCost, Engine, NotMeasured, Speed
from tools.evaluation.edge_subject import open_subject
from tools.evaluation.file_sizes import gguf_sizes, hf_sizes
from tools.evaluation.machine import available_cores, this_machine
from tools.evaluation.speed_process import SpeedRequest, measure_speed
from tools.evaluation.torch_speed import FORMATS as TORCH_FORMATS
from tools.export.quantisation import MIXES
from tools.requests import Progress, ReportProgress

__all__ = ["DEFAULT_FORMATS", "EdgeCost", "measure_edge"]

DEFAULT_FORMATS = ("float32", "f16", "q8_0", "q4_k_m")
"""What is timed: torch's formats by torch's names, llama.cpp's by llama.cpp's."""


def measure_edge(
    model: Path,
    *,
    threads: int | None = None,
    repeats: int = 5,
    prompt_tokens: int = 128,
    new_tokens: int = 32,
    formats: Sequence[str] = DEFAULT_FORMATS,
    report: ReportProgress = lambda progress: None,
    limit_seconds: float = 1800.0,
) -> EdgeCost:
    """Measure the model in the directory `model`, of any family that transformers opens.

    Args:
        threads: of the processor; all that this process may use when left out.
        repeats: readings of the prompt that count, after one to warm up.
        prompt_tokens: length of the prompt, of random tokens, the same for all engines.
        new_tokens: tokens decoded after the first one, which the prompt's reading gives.
        formats: what is timed: "float32", "bfloat16", "float16" with torch, and the names in
            `tools.export.quantisation.MIXES` with llama.cpp, for which a file is written to the folder for temporary
            files and removed again.
        limit_seconds: an engine that takes longer in one format is ended, which is a result.

    Raises InputError where there is no model, no such format, or the model cannot read so many tokens. What one engine
    cannot do is in `not_measured`.
    """
    chosen = _checked(formats)
    _require_positive(repeats=repeats, prompt_tokens=prompt_tokens, new_tokens=new_tokens, threads=threads or 1)
    machine = this_machine()
    report(Progress(phase="counting", done=0, total=1))
    subject = open_subject(model)
    subject.require_length(prompt_tokens + new_tokens + 1)
    counts = subject.counts(prompt_tokens)
    prompt = tuple(np.random.default_rng(0).integers(0, subject.vocabulary, prompt_tokens).tolist())
    wanted = SpeedRequest(
        path=subject.path,
        format="",
        prompt=prompt,
        new_tokens=new_tokens,
        repeats=repeats,
        threads=threads or available_cores(),
    )

    def timed(engine: Engine, name: str, path: Path) -> Speed | NotMeasured:
        phase = f"timing {engine}, {name}"
        report(Progress(phase=phase, done=0, total=repeats + 1))

        def on_repeat(done: int) -> None:
            report(Progress(phase=phase, done=done, total=repeats + 1))

        request = wanted.model_copy(update={"format": name, "path": path})
        return measure_speed(engine, request, limit_seconds, on_repeat)

    found = [timed("torch", name, subject.path) for name in chosen if name in TORCH_FORMATS]
    with tempfile.TemporaryDirectory(prefix="penjing-edge-") as folder:
        # All before the first is timed, so that the model need not stay in memory meanwhile.
        names = [name for name in chosen if name not in TORCH_FORMATS]
        written = subject.write_ggufs(Path(folder), names, lambda phase: report(Progress(phase=phase, done=0, total=1)))
        gc.collect()
        gguf_bytes = {name: file.stat().st_size for name, file in written.files.items()}
        found += [timed("llama.cpp", name, file) for name, file in written.files.items()]
    found += [
        NotMeasured(engine="llama.cpp", format=name, kind="unsupported", message=reason)
        for name, reason in written.refused.items()
    ]
    sizes = hf_sizes(subject.files, counts.padded_parameters)
    return EdgeCost(
        model=model,
        machine=machine,
        counts=counts,
        file_sizes=(*sizes, *(gguf_sizes(subject.design, gguf_bytes) if subject.design is not None else ())),
        speeds=tuple(one for one in found if isinstance(one, Speed)),
        not_measured=tuple(one for one in found if isinstance(one, NotMeasured)),
    )


def _require_positive(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise InputError(f"{name} is {value}; give at least 1.")


def _checked(formats: Sequence[str]) -> list[str]:
    """Each format once. Raises InputError for one that is not known."""
    unknown = [name for name in formats if name not in (*TORCH_FORMATS, *MIXES)]
    if unknown:
        known = ", ".join((*TORCH_FORMATS, *MIXES))
        raise InputError(f"There is no format {unknown[0]!r} to measure; choose among {known}.")
    return list(dict.fromkeys(formats))
