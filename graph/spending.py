"""What a running search has spent, from its records and its clock, and the gate that every cost passes first."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

from agents.prices import Price
from graph.budget import (
    BudgetCaps,
    BudgetReachedError,
    Refusal,
    Spent,
    allotted_seconds,
    call_refusal,
    evaluation_refusal,
    wall_clock_refusal,
)
from memory.records import Records
from memory.tables import Call, Evaluation, Run


def spent_of(
    calls: Sequence[Call],
    evaluations: Iterable[Evaluation],
    wall_clock_seconds: float,
    prices: Mapping[str, Price | None] | None = None,
) -> Spent:
    """What these cost; calls that were recorded without a cost have the price of their agent's chat model, if any."""
    costs = [_usd(call, (prices or {}).get(call.agent)) for call in calls]
    known = [cost for cost in costs if cost is not None]
    return Spent(
        llm_tokens=sum(call.input_tokens + call.output_tokens for call in calls),
        usd=sum(known) if len(known) == len(costs) else None,
        evaluation_seconds=sum(paid_seconds(evaluations)),
        wall_clock_seconds=wall_clock_seconds,
        unpriced_calls=len(costs) - len(known),
    )


def own_calls(run: Run, calls: Iterable[Call]) -> list[Call]:
    """Those that the run paid for: not those that a branch has from the run that it goes on from."""
    return [call for call in calls if call.turn >= run.first_turn]


def paid_seconds(evaluations: Iterable[Evaluation]) -> list[float]:
    """Seconds of each."""
    return [float(evaluation.measurement.get("seconds", 0.0)) for evaluation in evaluations]


def _usd(call: Call, price: Price | None) -> float | None:
    if call.cost_usd is not None or price is None:
        return call.cost_usd
    return price.usd(call.input_tokens, call.output_tokens, call.cached_tokens)


class Spending:
    """The gate of one run, with the price of each agent's chat model.

    The wall clock goes on from what earlier sessions used; `keep` writes it down.
    """

    def __init__(
        self,
        run_id: str,
        records: Records,
        caps: BudgetCaps,
        prices: Mapping[str, Price | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.caps = caps
        self._run_id, self._records, self._prices, self._clock = run_id, records, prices, clock
        self._run = records.run(run_id)
        self._before, self._started = self._run.wall_clock_seconds, clock()
        self._paused_at: float | None = None
        self._promised: dict[int, float] = {}
        self._free = asyncio.Condition()

    @property
    def wall_clock_seconds(self) -> float:
        """Seconds that all sessions of the run took so far, without those in which it waited for its user."""
        present = self._clock() if self._paused_at is None else self._paused_at
        return self._before + present - self._started

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While nothing is done but to wait for the user."""
        self._paused_at = began = self._clock()
        try:
            yield
        finally:
            self._started += self._clock() - began
            self._paused_at = None

    def keep(self) -> None:
        """Write the wall clock down, so that a killed process takes at most what came after with it."""
        self._records.update_run(self._run_id, wall_clock_seconds=self.wall_clock_seconds)

    def calls(self) -> list[Call]:
        """The calls that were paid for until now, without what was said in them."""
        return own_calls(self._run, self._records.call_costs(self._run_id))

    def spent(self, calls: Sequence[Call] | None = None) -> Spent:
        """What was spent until now; `calls` are those that were paid for, where they are known already."""
        seconds = sum(took for _, _, took in self._records.evaluation_seconds(self._run_id))
        spent = spent_of(self.calls() if calls is None else calls, (), self.wall_clock_seconds, self._prices)
        return replace(spent, evaluation_seconds=seconds)

    def usd(self, agent: str, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> float | None:
        """What a call by `agent` of so many tokens costs at most, None where the price is not known."""
        price = self._prices.get(agent)
        return None if price is None else price.usd(input_tokens, output_tokens, cached_tokens)

    def allow_call(self, agent: str, most_input: int, most_output: int) -> float | None:
        """The seconds that a call of the chat model by `agent` may take, None for any number.

        Raises BudgetReachedError where it might cost more than is left.
        """
        spent = self.spent()
        refusal = call_refusal(self.caps, spent, most_input + most_output, self.usd(agent, most_input, most_output))
        if refusal is not None:
            raise BudgetReachedError(refusal)
        most = self.caps.wall_clock_seconds
        return None if most is None else most - spent.wall_clock_seconds

    def out_of_time(self) -> BudgetReachedError:
        """What to raise where the wall clock ended something."""
        return BudgetReachedError(wall_clock_refusal(self.caps, self.spent()))

    def refuses_evaluation(self, expected_seconds: float) -> Refusal | None:
        """Whether an evaluation of so many seconds does not fit."""
        if not self.limits_time:
            return None
        return evaluation_refusal(self.caps, self.spent(), expected_seconds, sum(self._promised.values()))

    @property
    def limits_time(self) -> bool:
        """Whether a cap bounds evaluations, so that it matters how long they take."""
        return self.caps.evaluation_seconds is not None or self.caps.wall_clock_seconds is not None

    def seconds_left(self) -> float | None:
        """Wall clock that is left, None where it is not capped."""
        most = self.caps.wall_clock_seconds
        return None if most is None else max(0.0, most - self.wall_clock_seconds)

    @asynccontextmanager
    async def evaluation(self, number: int, expected_seconds: float, waiting: int) -> AsyncIterator[float | None]:
        """Room for the evaluation of trial `number`: yields the seconds that it may take, None for any number.

        What is left is shared with those of the `waiting` trials that have no room yet; where it is short they go one
        after the other. Record the evaluation before leaving. Raises BudgetReachedError where there is no room, and
        nothing under way that might leave some.
        """
        async with self._free:
            while (refusal := self.refuses_evaluation(expected_seconds)) is not None:
                if not self._promised:
                    raise BudgetReachedError(refusal)
                await self._free.wait()
            promised, sharers = sum(self._promised.values()), waiting - len(self._promised)
            spent = self.spent() if self.limits_time else Spent()
            most = allotted_seconds(self.caps, spent, expected_seconds, promised, sharers)
            self._promised[number] = most or 0.0
        try:
            yield most
        finally:
            async with self._free:
                del self._promised[number]
                self._free.notify_all()
