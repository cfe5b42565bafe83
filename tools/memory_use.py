"""Peak memory of this process."""

import contextlib
import resource
import sys
from pathlib import Path


def peak_memory_mb() -> float:
    """Largest resident set of this process so far, in megabytes of 10^6 bytes."""
    # Where there is /proc: what getrusage says begins with the peak of the process that started this one.
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kibibytes, macOS bytes.
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
