"""The machine and the versions that measured times depend on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

from tools.evaluation.edge_figures import Machine

_INSTRUCTIONS = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "amx_int8", "neon", "bf16", "i8mm", "sve")


def this_machine() -> Machine:
    """What can be found out without a special right."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return Machine(
        processor=_processor() or str(capabilities.get("cpu_name", platform.machine())),
        instructions=tuple(name for name in _INSTRUCTIONS if capabilities.get(name)),
        cores=available_cores(),
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        system=f"{platform.system()} {platform.machine()}",
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        torch=version("torch"),
        transformers=version("transformers"),
        xllamacpp=version("xllamacpp"),
    )


def available_cores() -> int:
    """Threads of the processor that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _processor() -> str | None:
    """The name that Linux has for the processor; on other systems None."""
    information = Path("/proc/cpuinfo")
    if not information.is_file():
        return None
    lines = information.read_text(encoding="utf-8").splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)
