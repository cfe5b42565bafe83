"""What a search says while it runs: typed events, each readable when printed."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from graph.budget import BudgetCaps, Spent, used_in_words
from memory.views import ordinal
from tools.fidelity import fidelity_in_words


class Event(BaseModel):
    """Base of all events; `kind` tells them apart in JSON."""

    model_config = ConfigDict(frozen=True)

    run: str


class StageEvent(Event):
    """Another part of the search begins."""

    kind: Literal["stage"] = "stage"
    stage: str
    message: str

    def __str__(self) -> str:
        return self.message


class ProgressEvent(Event):
    """Inside long work: `done` of `total` in a phase of the survey (trial None) or of a trial."""

    kind: Literal["progress"] = "progress"
    trial: int | None
    phase: str
    done: int
    total: int
    loss: float | None = None

    def __str__(self) -> str:
        where = "survey" if self.trial is None else f"trial {self.trial}"
        loss = "" if self.loss is None else f", loss {self.loss:.4f}"
        return f"{where}: {self.phase} {self.done}/{self.total}{loss}"


class SurveyEvent(Event):
    """The source was measured."""

    kind: Literal["survey"] = "survey"
    parameters: int
    loss: float
    latency_ms: float
    compute: str
    budget: int
    limits: tuple[str, ...] = ()
    accuracy: float | None = None

    def __str__(self) -> str:
        budget = f"budget {self.budget:,} parameters ({self.compute}){'.' if self.limits else ''}"
        words = " ".join([budget, *self.limits])
        return (
            f"source: {self.parameters:,} parameters, loss {self.loss:.4f}{_accuracy(self.accuracy)}, "
            f"{self.latency_ms:.1f} ms per token; {words}"
        )


class ProposalEvent(Event):
    """A proposal was checked. `trial` is None where it was sent back, rejected or screened.

    `expected` says in words what was expected of its design before it was paid for.
    """

    kind: Literal["proposal"] = "proposal"
    turn: int
    attempt: int
    stage: str
    proposer: str
    outcome: str
    trial: int | None
    design: str
    problems: tuple[str, ...]
    rationale: tuple[str, ...]
    expected: str = ""

    def __str__(self) -> str:
        head = f"turn {self.turn}: {self.proposer}, {self.outcome}"
        design = "; ".join(part for part in (self.design, self.expected) if part)
        if self.trial is not None:
            return f"{head}, trial {self.trial}: {design}"
        return f"{head}: {design if self.outcome == 'screened' else ' '.join(self.problems)}"


class EvaluationEvent(Event):
    """A trial has its measurement; `best_loss` and `best_accuracy` are those of the best so far within the limits.

    `over_limit` says by how much this one is over a measured limit. `fidelity` and `best_fidelity` are set where the
    search measures at several: only losses of one fidelity compare. `rung` is above 0 where it had been promoted.
    """

    kind: Literal["evaluation"] = "evaluation"
    trial: int
    stage: str
    parameters: int
    loss: float | None
    latency_ms: float | None
    seconds: float
    cached: bool
    failure: str | None
    best_loss: float | None
    over_limit: str | None = None
    accuracy: float | None = None
    best_accuracy: float | None = None
    fidelity: str = ""
    best_fidelity: str = ""
    rung: int = 0

    def __str__(self) -> str:
        after = f" after {fidelity_in_words(self.fidelity)}" if self.fidelity else ""
        if self.failure is not None:
            at = f" at {fidelity_in_words(self.fidelity)}" if self.fidelity else ""
            return f"trial {self.trial} failed{at}: {self.failure}"
        paid = "from cache" if self.cached else f"{self.seconds:.0f} s"
        over = "" if self.over_limit is None else f", over the limit: {self.over_limit}"
        figures = f"{self.parameters:,} parameters, loss {self.loss:.4f}{_accuracy(self.accuracy)}{after}"
        return f"trial {self.trial}: {figures}{over} ({paid})"


class PromotionEvent(Event):
    """A trial is measured again at a higher fidelity: it was number `rank` of the `rivals` on the rung below."""

    kind: Literal["promotion"] = "promotion"
    trial: int
    below: str
    fidelity: str
    rank: int
    rivals: int

    def __str__(self) -> str:
        place = f"{ordinal(self.rank)} of {self.rivals}"
        above, below = fidelity_in_words(self.fidelity), fidelity_in_words(self.below)
        return f"trial {self.trial} promoted from {below} to {above}: {place}"


class HandoverEvent(Event):
    """A stage takes over after `turns` turns in a row without a usable design, or, where 0, is asked again.

    `judge` is the searcher that the stage of this name means.
    """

    kind: Literal["handover"] = "handover"
    stage: str
    turns: int
    judge: str = "random"

    def __str__(self) -> str:
        who = f"the judge {self.judge}" if self.stage == "judge" else self.stage.replace("_", " ")
        if not self.turns:
            return f"{who} is asked again"
        return f"no usable design in {self.turns} turns: {who} takes over"


class PatternEvent(Event):
    """A pattern that agents named stands otherwise than before: `state` is supported, contradicted or open again.

    `support` and `contradiction` count the later trials that speak for it and against it.
    """

    kind: Literal["pattern"] = "pattern"
    text: str
    claim: str
    support: int
    contradiction: int
    state: str

    def __str__(self) -> str:
        counts = f"later trials: {self.support} for it, {self.contradiction} against"
        return f'pattern "{self.text}" is {self.state.replace("open", "open again")}: {counts}'


class PromptEvent(Event):
    """A template was edited while the search runs: taken from now on, or `refused`, with line and reason."""

    kind: Literal["prompt"] = "prompt"
    name: str
    hash: str
    file: str = ""
    refused: str = ""

    def __str__(self) -> str:
        if self.refused:
            return f"prompt {self.name}: edit refused, version {self.hash} stays ({self.refused})"
        return f"prompt {self.name}: version {self.hash} from now on ({self.file})"


class GuidanceEvent(Event):
    """The user's words for the agents changed: this is what they are told from now on, or why it cannot be read."""

    kind: Literal["guidance"] = "guidance"
    text: str
    problem: str = ""

    def __str__(self) -> str:
        if self.problem:
            return f"guidance: {self.problem}"
        return f"guidance from now on: {self.text}" if self.text else "guidance: none any more"


class ApprovalEvent(Event):
    """A trial waits for its user before it is paid for; or, with a `decision`, what they decided.

    `change` is what its design has other than the one that it was made from.
    """

    kind: Literal["approval"] = "approval"
    trial: int
    design: str
    change: tuple[str, ...] = ()
    decision: str = ""
    words: str = ""

    def __str__(self) -> str:
        if not self.decision:
            change = "; ".join(self.change) or self.design
            how = f"penjing approve {self.run} {self.trial} --accept, --edit JSON or --reject WORDS"
            return f"trial {self.trial} waits for your decision ({change}): {how}"
        what = {"accept": "accepted", "edit": "edited", "reject": "rejected"}.get(self.decision, self.decision)
        said = self.design if self.decision == "edit" else self.words
        return f"trial {self.trial} is {what}{said and ': '}{said}"


class BudgetEvent(Event):
    """Trials done of those allowed, tokens that the chat model read and wrote so far, and the rest of the budget.

    `usd` is None where the price of a call is not known.
    """

    kind: Literal["budget"] = "budget"
    trials_done: int
    trials: int
    input_tokens: int
    output_tokens: int
    usd: float | None = None
    evaluation_seconds: float = 0.0
    wall_clock_seconds: float = 0.0
    caps: BudgetCaps = BudgetCaps()

    @property
    def spent(self) -> Spent:
        """The figures that have caps."""
        tokens = self.input_tokens + self.output_tokens
        return Spent(tokens, self.usd, self.evaluation_seconds, self.wall_clock_seconds)

    def __str__(self) -> str:
        tokens = f"{self.input_tokens:,} tokens read, {self.output_tokens:,} written"
        return "; ".join([f"{self.trials_done} of {self.trials} trials", tokens, *used_in_words(self.caps, self.spent)])


class FinishedEvent(Event):
    """The search is over; `export` is the folder of the best model."""

    kind: Literal["finished"] = "finished"
    best: int
    loss: float
    export: str
    reason: str
    accuracy: float | None = None
    fidelity: str = ""

    def __str__(self) -> str:
        after = f" after {fidelity_in_words(self.fidelity)}" if self.fidelity else ""
        figures = f"loss {self.loss:.4f}{_accuracy(self.accuracy)}{after}"
        return f"finished ({self.reason}): best is trial {self.best} with {figures}, exported to {self.export}"


def _accuracy(share: float | None) -> str:
    return "" if share is None else f", accuracy {share:.3f}"


AnyEvent = (
    StageEvent
    | ProgressEvent
    | SurveyEvent
    | ProposalEvent
    | HandoverEvent
    | EvaluationEvent
    | PromotionEvent
    | PatternEvent
    | PromptEvent
    | GuidanceEvent
    | ApprovalEvent
    | BudgetEvent
    | FinishedEvent
)


def recorded_in_words(payload: Mapping[str, Any]) -> str:
    """A recorded event as it was told; of one that this version does not know, only of which kind it is."""
    try:
        return str(_events().validate_python(dict(payload)))
    except ValidationError:
        return f"{payload.get('kind', 'unknown')} (of another version)"


@cache
def _events() -> TypeAdapter[AnyEvent]:
    return TypeAdapter(AnyEvent)
