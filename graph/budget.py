"""The budget of a search: its caps, what of them is spent, and whether a further cost fits. No I/O.

A cost is checked before it is made, by the most that it can be: a call of the chat model by the bound on its prompt and
its longest answer, an evaluation by the seconds that it is expected to take, and then it gets no more than are left.
Trials are capped by the setting `trials`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from graph.sizes import Size
from tools.settings import Recipe

Cap = Literal["llm_tokens", "usd", "evaluation_seconds", "wall_clock_seconds"]
CAPS: tuple[Cap, ...] = ("llm_tokens", "usd", "evaluation_seconds", "wall_clock_seconds")

CUT_OFF = "cut off: the wall clock of the budget was reached"
"""The recorded error of a call that was given up; no answer came of it."""


class BudgetCaps(BaseModel):
    """What a search may spend beside its trials; None is no cap."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    llm_tokens: Size | None = Field(
        None, description="most tokens that the chat model may read and write together, like 200k"
    )
    usd: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="most US dollars for the chat model; its price must be known"
    )
    evaluation_seconds: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="most seconds of all evaluations; cached ones cost nothing"
    )
    wall_clock_seconds: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="most seconds that the search may run, all its sessions together; the export of the best model "
        "comes on top",
    )


@dataclass(frozen=True)
class Spent:
    """What was spent so far. `usd` is None where the price of some call is not known; `unpriced_calls` counts them."""

    llm_tokens: int = 0
    usd: float | None = 0.0
    evaluation_seconds: float = 0.0
    wall_clock_seconds: float = 0.0
    unpriced_calls: int = 0


@dataclass(frozen=True)
class Refusal:
    """A cost that does not fit: the cap that forbids it, and that in words."""

    cap: Cap
    words: str

    def __str__(self) -> str:
        return self.words


class BudgetReachedError(RuntimeError):
    """A call of the chat model was not made, since it might have cost more than is left."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(str(refusal))


def call_refusal(caps: BudgetCaps, spent: Spent, most_tokens: int, most_usd: float | None) -> Refusal | None:
    """Whether a call of the chat model that costs `most_tokens` and `most_usd` at most does not fit."""
    if caps.llm_tokens is not None and spent.llm_tokens + most_tokens > caps.llm_tokens:
        return Refusal(
            "llm_tokens",
            f"budget.llm_tokens: {spent.llm_tokens:,} of {caps.llm_tokens:,} tokens are spent, and the next call can "
            f"take up to {most_tokens:,}",
        )
    if caps.usd is not None and (spent.usd is None or most_usd is None or spent.usd + most_usd > caps.usd):
        used = "an unknown part" if spent.usd is None else f"${spent.usd:.4f}"
        next_call = "an unknown sum" if most_usd is None else f"up to ${most_usd:.4f}"
        return Refusal("usd", f"budget.usd: {used} of ${caps.usd:g} is spent, and the next call can cost {next_call}")
    most = caps.wall_clock_seconds
    return None if most is None or spent.wall_clock_seconds < most else wall_clock_refusal(caps, spent)


def evaluation_refusal(
    caps: BudgetCaps, spent: Spent, expected_seconds: float, promised_seconds: float = 0.0
) -> Refusal | None:
    """Whether an evaluation of `expected_seconds` does not fit.

    `promised_seconds` is what others that are under way may still take of the evaluation seconds.
    """
    for cap, most, used, promised in _times(caps, spent, promised_seconds):
        left = most - used - promised
        # Also the one whose length nobody knows needs some time.
        if left <= 0 or expected_seconds > left:
            about = f", and an evaluation takes about {_seconds(expected_seconds)}" if expected_seconds else ""
            return Refusal(cap, f"budget.{cap}: {_seconds(used)} of {_seconds(most)} are spent{about}")
    return None


def allotted_seconds(
    caps: BudgetCaps, spent: Spent, expected_seconds: float, promised_seconds: float = 0.0, sharers: int = 1
) -> float | None:
    """The seconds that an evaluation which fits may take at most; None where no cap bounds them.

    Of the evaluation seconds that are left it gets what it is expected to take, or the `sharers`th part where that is
    more.
    """
    found: list[float] = []
    for cap, most, used, promised in _times(caps, spent, promised_seconds):
        left = max(0.0, most - used - promised)
        shared = cap == "evaluation_seconds"
        found.append(min(left, max(expected_seconds, left / max(1, sharers))) if shared else left)
    return min(found) if found else None


def wall_clock_refusal(caps: BudgetCaps, spent: Spent) -> Refusal:
    """That the time is up."""
    used, most = _seconds(spent.wall_clock_seconds), _seconds(caps.wall_clock_seconds or 0.0)
    return Refusal("wall_clock_seconds", f"budget.wall_clock_seconds: {used} of {most} are spent")


def expected_seconds(paid_seconds: Sequence[float], survey_seconds: float, recipe: Recipe) -> float:
    """Seconds that the next evaluation will take: the median of those paid in this run.

    Before there is one, the survey says: it loads, measures and trains as an evaluation does, if for other steps.
    """
    return (
        median(paid_seconds) if paid_seconds else survey_seconds * max(1.0, recipe.training_steps / recipe.warmup_steps)
    )


def _times(caps: BudgetCaps, spent: Spent, promised: float) -> list[tuple[Cap, float, float, float]]:
    """The caps on time: name, value, spent, and promised to others. Evaluations side by side share the wall clock."""
    found: list[tuple[Cap, float, float, float]] = []
    if caps.evaluation_seconds is not None:
        found.append(("evaluation_seconds", caps.evaluation_seconds, spent.evaluation_seconds, promised))
    if caps.wall_clock_seconds is not None:
        found.append(("wall_clock_seconds", caps.wall_clock_seconds, spent.wall_clock_seconds, 0.0))
    return found


def most_used(caps: BudgetCaps, spent: Spent) -> tuple[Cap, float] | None:
    """The cap of which the largest share is spent, and that share; None without caps."""
    shares: dict[Cap, float] = {}
    for cap in CAPS:
        most, used = getattr(caps, cap), getattr(spent, cap)
        if most is not None:
            shares[cap] = (used or 0.0) / most
    return max(shares.items(), key=lambda item: item[1]) if shares else None


def used_in_words(caps: BudgetCaps, spent: Spent) -> list[str]:
    """What is spent of each cap, and money and time also where they have none."""
    usd = "cost not known" if spent.usd is None else f"${spent.usd:.4f}"
    words = [] if caps.llm_tokens is None else [f"{spent.llm_tokens:,} of {caps.llm_tokens:,} LLM tokens"]
    words.append(usd if caps.usd is None else f"{usd} of ${caps.usd:g}")
    for used, most, name in (
        (spent.evaluation_seconds, caps.evaluation_seconds, "evaluating"),
        (spent.wall_clock_seconds, caps.wall_clock_seconds, "of wall clock"),
    ):
        words.append(f"{_seconds(used)} {name}" if most is None else f"{_seconds(used)} of {_seconds(most)} {name}")
    return words


def _seconds(value: float) -> str:
    return f"{value:,.0f} s" if value >= 100 else f"{value:.3g} s"
