"""How the threads of a computation wait for each other: patiently, so that a second busy process does not stall them.

Nothing here imports torch: libgomp reads its environment when it is loaded.
"""

import os
from collections.abc import MutableMapping


def wait_patiently(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have OpenMP threads that wait spin only briefly, in processes that get `environment`; a user's own word counts.

    With libgomp's default, a second busy process on the machine makes two-threaded torch many times slower. Has an
    effect on this process only before torch is imported.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", "1000")


def patient_environment() -> dict[str, str]:
    """That of a new process whose threads wait patiently."""
    environment = dict(os.environ)
    wait_patiently(environment)
    return environment
