"""A trial as everybody reads it: the trial, the proposal behind it and the evaluation it got, in one plain object."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from tools.architecture import Architecture
from tools.measurement import Measurement


class TrialView(BaseModel):
    """One design of a run with its origin and its figures; `measurement` is None until it is evaluated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trial_id: int
    run_id: str
    number: int
    stage: str
    proposer: str
    parent_number: int | None
    architecture: Architecture
    measurement: Measurement | None
    rationale: tuple[str, ...]
    outcome: str
    forecast: float | None
    cached: bool
    prompt_hash: str | None
    based_on: tuple[int, ...]
    proposal_id: int
    evaluation_key: str | None
    created_at: datetime

    @property
    def name(self) -> str:
        """The trial's name across runs, `RUN/NUMBER`; also its id in the vector store."""
        return f"{self.run_id}/{self.number}"

    @property
    def loss(self) -> float | None:
        """Validation loss in nats per token, None where there is none."""
        return self.measurement.loss if self.measurement else None

    @property
    def succeeded(self) -> bool:
        """Whether it was evaluated and has a loss."""
        return self.measurement is not None and self.measurement.succeeded
