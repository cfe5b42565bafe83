"""How a benchmark reports: the JSON line, the files under results/, and the machine it ran on."""

import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.errors import InputError

RESULTS = Path(__file__).parent / "results"
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


def shared_file(name: str) -> Path:
    """A file of the shared data beside the checkout. Raises InputError where it is absent."""
    path = SHARED_DATA / name
    if not path.is_file():
        raise InputError(f"This benchmark needs {name} in a folder shared/data beside the checkout.")
    return path


def report_name(name: str) -> str:
    """The name of the report of benchmark `name` on this device: figures of a GPU stand beside those of a CPU."""
    from tools.pretraining.compute import choose_compute

    device = choose_compute().device
    return name if device == "cpu" else f"{name}_{device}"


def environment() -> dict[str, Any]:
    """The machine and the versions that figures depend on."""
    import torch
    import transformers

    from tools.pretraining.compute import choose_compute

    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": platform.machine(),
        "processor": str(torch.cpu.get_capabilities().get("cpu_name", platform.processor())),
        "compute": choose_compute().describe(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def finish(name: str, holds: bool, figures: dict[str, Any]) -> None:
    """Write results/NAME.json, NAME with the device where that is not the CPU, and print the JSON line."""
    document = {"benchmark": name, "holds": holds, "figures": figures, "environment": environment()}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{report_name(name)}.json").write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))
