"""The figures of each training step, and their log on disk: JSON lines, written as they happen."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from pydantic import JsonValue

from tools.errors import InputError
from tools.pretraining.compute import Compute
from tools.ranks import rank, world_size

# Dense bfloat16 FLOP/s with float32 sums, by the name that CUDA gives the device. NVIDIA's data sheets print twice as
# much, with sparsity, for Hopper, Blackwell and L4; GeForce: white papers of GA102 and Ada, appendix A.
_PEAK_FLOPS = {
    "NVIDIA B200": 2250e12,
    "NVIDIA H200": 989.5e12,
    "NVIDIA H200 NVL": 835.5e12,
    "NVIDIA GH200 480GB": 989.5e12,
    "NVIDIA H100 80GB HBM3": 989.5e12,
    "NVIDIA H100 NVL": 835.5e12,
    "NVIDIA H100 PCIe": 756.5e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA A10": 125e12,
    "NVIDIA L40S": 362.05e12,
    "NVIDIA L40": 181.05e12,
    "NVIDIA L4": 121e12,
    "NVIDIA GeForce RTX 4090": 165.2e12,
    "NVIDIA GeForce RTX 3090": 71e12,
}


@dataclass(frozen=True)
class StepFigures:
    """One optimiser step of all ranks together.

    `step` and `tokens`: done by now. `loss`: cross-entropy in nats per token, before the step; `objective`: what was
    minimised, None where that is the loss. `gradient_norm`: before clipping. `seconds`: of this step alone.
    `model_flops_utilisation`: share of the hardware's peak, None where that is not known.
    """

    step: int
    tokens: int
    loss: float
    objective: float | None
    learning_rate: float
    gradient_norm: float
    seconds: float
    tokens_per_second: float
    parameters: int
    model_flops_utilisation: float | None


def peak_flops(compute: Compute) -> float | None:
    """Dense bfloat16 FLOP/s of the devices of all ranks together; None where not known, and in float32."""
    if not compute.device.startswith("cuda") or compute.precision != "bfloat16":
        return None
    peak = _PEAK_FLOPS.get(torch.cuda.get_device_name())
    return None if peak is None else peak * world_size()


def model_flops_utilisation(parameters: int, tokens_per_second: float, peak: float | None) -> float | None:
    """6 FLOP per parameter and token (PaLM, arXiv 2204.02311, appendix B, without attention), as a share of `peak`."""
    return None if peak is None else 6 * parameters * tokens_per_second / peak


class TrainingLog:
    """Appends to the JSON-lines file `path`; only rank 0 writes, the others' calls do nothing.

    A line of a step has the fields of StepFigures that are known, a line of an event has `event`, `step` and its facts.
    `resumed_step` is where the training goes on: lines beyond it, which a killed process wrote after its last
    checkpoint, are cut off. With 0 the file begins anew. All calls raise InputError where the disk is full.
    """

    def __init__(self, path: Path, resumed_step: int = 0) -> None:
        self._file, self._path = None, path
        if rank() == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            _cut_off(path, resumed_step)
            # Line buffering: a line is on disk, whole, when the call returns.
            self._file = path.open("a", encoding="utf-8", buffering=1)

    def step(self, figures: StepFigures) -> None:
        """Write the figures of one step."""
        self._write({name: value for name, value in asdict(figures).items() if value is not None})

    def event(self, kind: str, step: int, **facts: JsonValue) -> None:
        """Write that something happened after `step` steps, such as a cut."""
        self._write({"event": kind, "step": step, **facts})

    def close(self) -> None:
        """Close the file. Raises InputError where the disk does not take what is left."""
        if self._file is not None:
            file, self._file = self._file, None
            with self._told():
                file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: dict[str, JsonValue]) -> None:
        if self._file is not None:
            with self._told():
                self._file.write(json.dumps(line, allow_nan=False) + "\n")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # What is torn is cut off where the run goes on.
            advice = "choose a directory that is writable and has enough space."
            raise InputError(f"Cannot write {self._path}: {error.strerror}; {advice}") from error


def _cut_off(path: Path, step: int) -> None:
    """Leave the lines up to `step`, without a last one that is torn."""
    if not path.is_file():
        return
    kept = []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines if step > 0 else ():
            try:
                beyond = json.loads(line)["step"] > step
            except ValueError:
                break
            if beyond or not line.endswith("\n"):
                break
            kept.append(line)
    beside = path.with_name(f".{path.name}.new")
    beside.write_text("".join(kept), encoding="utf-8")
    beside.replace(path)
