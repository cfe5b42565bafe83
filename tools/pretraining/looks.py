"""Looks at the held-out text as a run's log keeps them: the loss of each block, and what the last says of the first."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from tools.evaluation.paired import PairedDifference


def loss_of(losses: Sequence[float]) -> float:
    """The loss on all blocks, of equal length, from that of each; nats per token."""
    return float(np.mean(losses))


def look(losses: Sequence[float]) -> dict[str, JsonValue]:
    """The fields of a log's line; what is not finite is null, as JSON has no other word for it."""
    return {"loss": _finite(loss_of(losses)), "block_losses": [_finite(loss) for loss in losses]}


def source_losses(log: Path) -> list[float]:
    """Those of the source, from the first line of the log of a run that was begun before."""
    with log.open(encoding="utf-8") as lines:
        found = json.loads(next(lines))["block_losses"]
    return [math.nan if loss is None else float(loss) for loss in found]


def grown_losses(log: Path) -> list[float] | None:
    """Those of what was grown, from the log of a run that is finished; None where not all are finite."""
    with log.open(encoding="utf-8") as lines:
        found = [line for line in map(json.loads, lines) if line.get("event") == "grown"]
    if not found or None in found[-1]["block_losses"]:
        return None
    return [float(loss) for loss in found[-1]["block_losses"]]


def warning_of_outlier(difference: PairedDifference, blocks: int) -> str | None:
    """A word on one held-out block that is far from all others, or None where there is none."""
    if difference.outlier is None or difference.mean_without is None:
        return None
    return (
        f"One held-out block, number {difference.outlier + 1} of {blocks}, is farther from the source's loss "
        f"than all others by far: the mean difference is {difference.mean:+.4f} with it, "
        f"{difference.mean_without:+.4f} without."
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
