"""Where and in which number format models are computed: chosen from the hardware, and said in words."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class Compute:
    """A device and a compute precision over float32 weights."""

    device: str
    precision: Literal["bfloat16", "float32"]

    def autocast(self) -> AbstractContextManager[object]:
        """Context in which matrix products run in `precision`; weights, gradients and statistics stay float32."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")

    def place(self, model: torch.nn.Module) -> None:
        """Move `model` to the device, in place."""
        torch.nn.Module.to(model, self.device)

    def describe(self) -> str:
        count = torch.get_num_threads()
        threads = f"{count} thread{'' if count == 1 else 's'}"
        return f"{self.precision} compute on {self.device} over float32 weights, {threads}"


def choose_compute(precision: Literal["auto", "bfloat16", "float32"] = "auto") -> Compute:
    """The best device present; `auto` takes bfloat16 where the hardware multiplies it natively."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if precision != "auto":
        return Compute(device, precision)
    if device == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        native = any(bool(capabilities.get(name)) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return Compute(device, "bfloat16" if native else "float32")
