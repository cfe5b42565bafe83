"""What one evaluation found: plain, typed data that agents, memory and tables read."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from tools.pruning.drop_event import DropEvent

FailureKind = Literal["out_of_memory", "not_finite", "time_limit", "crashed"]


class Failure(BaseModel):
    """Why an evaluation gave no loss. Agents see it like any other result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FailureKind
    message: str


class Measurement(BaseModel):
    """Figures of one model at one fidelity.

    `loss` is the mean validation cross-entropy in nats per token, `block_losses` those of each validation block, whose
    mean it is, and `perplexity` its exponential, all computed in float32; `precision` is that of the training's matrix
    products. `latency_ms` is the median time to decode one token at batch size 1 with the key/value cache; `accuracy`
    is the mean of the zero-shot `accuracies` (shares, by task) with its standard error, None where the search is not
    after it; `drops` are the cuts on the way to the design; `tokens` counts training tokens, warm-up included;
    `seconds` is wall-clock time of the whole evaluation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fidelity: str
    parameters: int
    loss: float | None = None
    block_losses: tuple[float, ...] = ()
    perplexity: float | None = None
    loss_before_training: float | None = None
    latency_ms: float | None = None
    accuracy: float | None = None
    accuracy_stderr: float | None = None
    accuracies: dict[str, float] = {}
    training_losses: tuple[float, ...] = ()
    drops: tuple[DropEvent, ...] = ()
    tokens: int = 0
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    precision: str = "float32"
    failure: Failure | None = None

    @classmethod
    def of_loss(cls, loss: float, **figures: Any) -> "Measurement":
        """A successful measurement; the perplexity follows from the loss."""
        return cls(loss=loss, perplexity=math.exp(min(loss, 700.0)), **figures)

    @classmethod
    def of_blocks(cls, losses: Sequence[float], **figures: Any) -> "Measurement":
        """A successful measurement from the loss of each validation block, all of one length.

        Blocks are left out where one is not finite, for which JSON has no number.
        """
        kept = tuple(losses) if all(map(math.isfinite, losses)) else ()
        return cls.of_loss(statistics.fmean(losses), block_losses=kept, **figures)

    @property
    def succeeded(self) -> bool:
        return self.failure is None and self.loss is not None
