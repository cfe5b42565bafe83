"""The setting `workers`, read: which kind of workers, how many at once, or which cluster."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from tools.errors import InputError
from tools.workers.base import Workers
from tools.workers.local import LocalWorkers
from tools.workers.processes import ProcessWorkers

_KNOWN = "local, processes, processes:N, ray or ray:ADDRESS"


class RaySettings(BaseModel):
    """What a survey or a trial gets on a Ray cluster."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpus: float = Field(1, ge=0, description="cores of each trial on a Ray node, and threads of its computation")
    gpus: float = Field(0, ge=0, description="GPUs of each trial on a Ray node; 0.5: two trials share one")
    retries: int = Field(
        2, ge=0, description="how often a trial is begun again, where its Ray worker or node died, before it has failed"
    )


@dataclass(frozen=True)
class WorkersChoice:
    """`places` is how many subprocesses work at once, None for as many as are asked for; `address` of a cluster."""

    kind: Literal["local", "processes", "ray"]
    places: int | None = None
    address: str | None = None

    @classmethod
    def read(cls, setting: str) -> Self:
        """The choice in words. Raises ValueError, with what there is, where it is none."""
        kind, colon, rest = setting.partition(":")
        if kind == "local" and not colon:
            return cls("local")
        if kind == "processes":
            if not colon:
                return cls("processes")
            if not rest.isascii() or not rest.isdigit() or int(rest) < 1:
                raise ValueError(f"processes:N takes a whole number of at least 1, not {rest!r}")
            return cls("processes", places=int(rest))
        if kind == "ray":
            if colon and not rest.strip():
                raise ValueError("ray:ADDRESS needs an address, like ray:10.0.0.1:6379 or ray:auto")
            return cls("ray", address=rest.strip() or None)
        raise ValueError(f"there are no workers {setting!r}, only {_KNOWN}")


def make_workers(setting: str, log_folder: Path, parallel: int = 1, ray_settings: RaySettings | None = None) -> Workers:
    """The workers that the setting names; nothing is started before they are asked for something.

    Args:
        parallel: most trials that are asked for at once.

    Raises:
        InputError: there are none such, or the package that they need is missing.
    """
    try:
        choice = WorkersChoice.read(setting)
    except ValueError as error:
        raise InputError(f"workers: {error}.") from error
    if choice.kind == "local":
        return LocalWorkers()
    if choice.kind == "processes":
        return ProcessWorkers(log_folder, choice.places or parallel)
    from tools.workers.ray_workers import RayWorkers

    return RayWorkers(choice.address, ray_settings or RaySettings())
