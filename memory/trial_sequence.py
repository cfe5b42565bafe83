"""The trials of a run as they stood at one moment; what is worked out of each of them is not worked out again later."""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from heapq import nsmallest
from itertools import compress, count
from operator import attrgetter, is_not
from typing import Any, Self, TypeVar

from memory.retrieval import rank
from memory.views import TrialView

Found = TypeVar("Found")

_NUMBER = attrgetter("number")
_IDENTITY = attrgetter("architecture.hash")
_PROPOSAL = attrgetter("proposal_id")
_STAGE = attrgetter("stage")


class TrialSequence(tuple[TrialView, ...]):
    """Trials in order of their numbers; a tuple of them.

    A search asks for all its trials at every step, and few of them change between two steps: what `each` has worked
    out of the others is taken over.
    """

    _worked_out: dict[Callable[[TrialView], Any], list[Any]]
    _finished_before: "TrialSequence | None"

    def __new__(cls, views: Iterable[TrialView] = (), before: "TrialSequence | None" = None) -> Self:
        """`before` are the trials of the same run at an earlier moment."""
        made = super().__new__(cls, views)
        made._worked_out, made._finished_before = {}, None
        if before is not None and len(before) <= len(made):
            changed = list(compress(count(), map(is_not, before, made)))
            for of, values in before._worked_out.items():
                values = [*values, *map(of, made[len(before) :])]
                for place in changed:
                    values[place] = of(made[place])
                made._worked_out[of] = values
            # Not `before` itself, which would keep all earlier moments.
            made._finished_before = before.__dict__.get("_finished")
        return made

    def each(self, of: Callable[[TrialView], Found]) -> list[Found]:
        """`of` each trial, in their order. It depends on the trial alone, and is a function of a module."""
        if of not in self._worked_out:
            self._worked_out[of] = list(map(of, self))
        return self._worked_out[of]

    @property
    def finished(self) -> "TrialSequence":
        """Those that have a result: the same ones, where all have, so that nothing is worked out for both."""
        return self if all(self.each(_has_result)) else self._finished

    @cached_property
    def _finished(self) -> "TrialSequence":
        before, self._finished_before = self._finished_before, None
        return TrialSequence(compress(self, self.each(_has_result)), before)

    @cached_property
    def by_number(self) -> Mapping[int, TrialView]:
        """The trials by their numbers."""
        return dict(zip(self.each(_NUMBER), self, strict=True))

    @cached_property
    def by_identity(self) -> Mapping[str, TrialView]:
        """The trials by the canonical hash of their design; of equal ones the last."""
        return dict(zip(self.each(_IDENTITY), self, strict=True))

    @cached_property
    def proposals(self) -> frozenset[int]:
        """Ids of the proposals that they come from."""
        return frozenset(self.each(_PROPOSAL))

    @cached_property
    def stages(self) -> frozenset[str]:
        """In which stages they were proposed."""
        return frozenset(self.each(_STAGE))

    def best(self, k: int) -> list[TrialView]:
        """As `memory.retrieval.best`."""
        ranks = [place for place in self.each(_rank_if_acceptable) if place is not None]
        return [self.by_number[number] for _, _, number in nsmallest(k, ranks)]


def _has_result(trial: TrialView) -> bool:
    return trial.measurement is not None


def _rank_if_acceptable(trial: TrialView) -> tuple[int, float, int] | None:
    return rank(trial) if trial.acceptable else None
