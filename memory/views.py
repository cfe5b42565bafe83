"""A trial as everybody reads it: the trial, the proposal behind it and the evaluation it got, in one plain object."""

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from tools.architecture import Architecture
from tools.costs import Excess, file_mb, latency_excess, memory_mb
from tools.fidelity import fidelity_in_words
from tools.measurement import Measurement
from tools.settings import GoalSettings

_FOUND_OUT = ("rung", "succeeded", "score", "over_limit", "acceptable")
"""What decides between trials: worked out once, since a search asks it of all of them at each step."""


class Judged(BaseModel):
    """What a trial was found to be, None until it is evaluated, and the `goal` that it is judged by.

    The same evaluation may be within the limits of one run and over those of another. `ladder` are the fidelities of
    the run, where it measures at more than one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    measurement: Measurement | None
    goal: GoalSettings = GoalSettings()
    ladder: tuple[str, ...] = ()

    @property
    def fidelity(self) -> str | None:
        """At which fidelity its figures were measured, None where it has none."""
        return self.measurement.fidelity if self.measurement else None

    @property
    def measured_after(self) -> str:
        """`after short training`, where its run measures at more than one fidelity; else empty."""
        return f"after {fidelity_in_words(self.fidelity)}" if self.ladder and self.fidelity else ""

    @cached_property
    def rung(self) -> int:
        """Number of the rung of the run's ladder that its figures are of; 0 where there is only one."""
        return self.ladder.index(self.fidelity) if self.fidelity in self.ladder else 0

    def on_first_rung(self) -> Self:
        """With the figures of the first rung, which all trials of a run have."""
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        # Pydantic copies what was found out of the original, too, which need not hold of the copy.
        copied = super().model_copy(update=update, deep=deep)
        for name in _FOUND_OUT:
            copied.__dict__.pop(name, None)
        return copied

    @property
    def loss(self) -> float | None:
        """Validation loss in nats per token, None where there is none."""
        return self.measurement.loss if self.measurement else None

    @cached_property
    def succeeded(self) -> bool:
        """Whether it was evaluated and has a loss."""
        return self.measurement is not None and self.measurement.succeeded

    @property
    def accuracy(self) -> float | None:
        """Mean zero-shot accuracy, a share, None where it was not measured."""
        return self.measurement.accuracy if self.measurement else None

    @cached_property
    def score(self) -> float | None:
        """What decides in its run, the lower the better: the loss, or the accuracy with its sign turned."""
        if self.goal.objective == "loss":
            return self.loss
        return None if self.accuracy is None else -self.accuracy

    @cached_property
    def over_limit(self) -> Excess | None:
        """The measured limit of its run that it breaks."""
        return latency_excess(self.measurement.latency_ms if self.measurement else None, self.goal)

    @cached_property
    def acceptable(self) -> bool:
        """Whether it succeeded within the limits of its run, so that it may be the best."""
        return self.succeeded and self.score is not None and self.over_limit is None


class RungView(BaseModel):
    """What a trial measured on one rung, None while it waits for that.

    It came up as number `rank` of the `rivals` on the rung below; both are None on the first rung.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rung: int
    fidelity: str
    rank: int | None = None
    rivals: int | None = None
    measurement: Measurement | None = None
    evaluation_key: str | None = None
    cached: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether it has a loss."""
        return self.measurement is not None and self.measurement.succeeded

    @property
    def promotion(self) -> str:
        """`promoted to short training: 1st of 3`; empty on the first rung."""
        if self.rank is None or self.rivals is None:
            return ""
        return f"promoted to {fidelity_in_words(self.fidelity)}: {ordinal(self.rank)} of {self.rivals}"


class TrialView(Judged):
    """One design of a run with its origin and its figures; `goal` is what its run is after.

    Where the run measures at more than one fidelity, `rungs` has what was measured at each so far, and the figures of
    the trial are those of the highest one at which it was grown. Only figures of one fidelity compare: all trials have
    those of the first rung, `on_first_rung`.
    """

    trial_id: int
    run_id: str
    number: int
    stage: str
    proposer: str
    parent_number: int | None
    architecture: Architecture
    rationale: tuple[str, ...]
    outcome: str
    forecast: float | None
    expected_score: float | None = None
    expected_deviation: float | None = None
    cached: bool
    prompt_hash: str | None
    based_on: tuple[int, ...]
    proposal_id: int
    evaluation_key: str | None
    created_at: datetime
    rungs: tuple[RungView, ...] = ()

    @property
    def name(self) -> str:
        """The trial's name across runs, `RUN/NUMBER`; also its id in the vector store."""
        return f"{self.run_id}/{self.number}"

    @property
    def identity(self) -> str:
        """Canonical hash of its design."""
        return self.architecture.hash

    @property
    def waits_for(self) -> RungView | None:
        """The rung above the first one that it was promoted to and has no result of yet."""
        return next((one for one in self.rungs[1:] if one.measurement is None), None)

    def on_first_rung(self) -> Self:
        return self.on_rung(self.rungs[0]) if self.rungs else self

    def on_rung(self, rung: RungView) -> Self:
        """The trial with the figures of one of its rungs."""
        return self.model_copy(
            update={
                "measurement": rung.measurement,
                "evaluation_key": rung.evaluation_key,
                "cached": rung.cached,
            }
        )

    @property
    def is_rejected(self) -> bool:
        """Whether its user did not let it be paid for: it has no measurement, and will have none."""
        return self.outcome == "rejected"

    @property
    def file_mb(self) -> float:
        """Size of its weights in the run's file format, in 10^6 bytes."""
        return file_mb(self.architecture, self.goal.file_format)

    @property
    def memory_mb(self) -> float:
        """Memory of these weights and of the run's key/value cache, in 10^6 bytes."""
        return memory_mb(self.architecture, self.goal.file_format, self.goal.memory_context)


def ordinal(number: int) -> str:
    """`1st`, `2nd`, `11th`."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
