"""Peak memory of this process."""

import resource
import sys


def peak_memory_mb() -> float:
    """Largest resident set so far, in megabytes of 10^6 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kibibytes, macOS bytes.
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
