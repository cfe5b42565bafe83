"""When continuous dropping removes groups, and which design it leaves: the policies behind one interface.

`TowardsDesign` reaches a given design on time, `TowardsSize` a number of parameters, the design following from the
saliency of the moment; `EveryNSteps` is the paper's rule (EfficientLLM, arXiv 2502.06663, Fig. 2 and A0).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from tools.architecture import Architecture
from tools.errors import InputError
from tools.pruning.drop_event import DropEvent
from tools.pruning.greedy import SaliencyDesigner
from tools.pruning.groups import PRUNING_TYPES, PruningType
from tools.pruning.saliency import Saliency, no_saliency
from tools.pruning.schedule import DropSchedule
from tools.settings import SpaceSettings, WidthSettings


class DropPolicy(ABC):
    """Decides after each optimiser step whether groups go, and down to which design.

    A policy keeps no state of its own: all it knows is the step, the current design, the saliency and the events so
    far, so a restart in the middle decides as if there had been none.
    """

    @abstractmethod
    def design_after(
        self, step: int, current: Architecture, events: Sequence[DropEvent], saliency: Callable[[], Saliency]
    ) -> Architecture | None:
        """The design to cut `current` to when `step` steps are done, or None; a part of `current`, never larger.

        `saliency` is of the current model and only asked for where it is needed.
        """

    @abstractmethod
    def is_finished(self, step: int, current: Architecture, events: Sequence[DropEvent]) -> bool:
        """Whether no event comes any more, so that statistics need not be taken."""


class TowardsDesign(DropPolicy):
    """Follows a `DropSchedule` to its target; the schedule's step 0 is step `first` of the training."""

    def __init__(self, schedule: DropSchedule, first: int = 0) -> None:
        self._schedule, self._first = schedule, first

    def design_after(
        self, step: int, current: Architecture, events: Sequence[DropEvent], saliency: Callable[[], Saliency]
    ) -> Architecture | None:
        event = self._schedule.event_after(step - self._first)
        return None if event is None else self._schedule.design(event)

    def is_finished(self, step: int, current: Architecture, events: Sequence[DropEvent]) -> bool:
        # An event that has nothing to remove is none.
        return current == self._schedule.target


class TowardsSize(DropPolicy):
    """`events` cuts, evenly spread over `steps` steps from step `first` on, to at most `widths.max_parameters`.

    After event k of K, `(k / K) ** curve` of the parameters to remove are gone: below 1 the early events remove more.
    Which groups go is decided at each event, over all `types`, by the saliency of the moment. Raises InputError where
    there are fewer steps than events.
    """

    def __init__(
        self,
        source: Architecture,
        space: SpaceSettings,
        events: int,
        steps: int,
        first: int,
        curve: float = 1.0,
        types: Sequence[PruningType] = PRUNING_TYPES,
    ) -> None:
        # DropSchedule knows when; the design that it would lead to does not matter here.
        self._schedule = DropSchedule(source, source, events, steps)
        self._source, self._space, self._first, self._curve, self._types = source, space, first, curve, types

    def design_after(
        self, step: int, current: Architecture, events: Sequence[DropEvent], saliency: Callable[[], Saliency]
    ) -> Architecture | None:
        event = self._schedule.event_after(step - self._first)
        if event is None:
            return None
        total = self._source.parameters - self._space.max_parameters
        goal = self._source.parameters - round(total * (event / self._schedule.events) ** self._curve)
        if current.parameters <= goal:
            return None
        # A last step that frees more than it must is made up for by the most salient steps that still fit.
        space = self._space.model_copy(update={"max_parameters": goal, "min_parameters": goal})
        return SaliencyDesigner(current, saliency(), space, self._types).greedy()

    def is_finished(self, step: int, current: Architecture, events: Sequence[DropEvent]) -> bool:
        done = self._first + (self._schedule.events - 1) * self._schedule.steps // self._schedule.events
        return current.parameters <= self._space.max_parameters or step > done


class EveryNSteps(DropPolicy):
    """The paper's rule: the type whose least salient group is lowest loses one, then training goes on for u N steps.

    u is the number of channel units of the event: 1 for an FFN channel, 2 for a stem channel, head_dim for a head (one
    in every layer at once where `space.uniform`). Measured from the authors' Fig. A0. Ends at `space.max_parameters`;
    where widths move in multiples, an event removes that many channels and waits that many times as long.
    """

    def __init__(self, n: int, space: SpaceSettings, first: int, types: Sequence[PruningType] = PRUNING_TYPES) -> None:
        if n < 1:
            raise InputError(f"every={n} makes no sense: give the optimiser steps between two drops, 1 or more.")
        self._n, self._space, self._first, self._types = n, space, first, types

    def design_after(
        self, step: int, current: Architecture, events: Sequence[DropEvent], saliency: Callable[[], Saliency]
    ) -> Architecture | None:
        if self.is_finished(step, current, events) or step < self._due(current, events):
            return None
        return SaliencyDesigner(current, saliency(), self._space, self._types).next_step(current)

    def is_finished(self, step: int, current: Architecture, events: Sequence[DropEvent]) -> bool:
        return current.parameters <= self._space.max_parameters

    def _due(self, current: Architecture, events: Sequence[DropEvent]) -> int:
        if not events:
            return self._first
        last = events[-1]
        return last.step + self._n * channel_units(last.removed, current, self._space)


def require_reachable(source: Architecture, space: SpaceSettings, types: Sequence[PruningType]) -> None:
    """Raises InputError, with the smallest size, where dropping `types` cannot make `source` small enough."""
    SaliencyDesigner(source, no_saliency(source), space, types).shrink(source)


def channel_units(removed: dict[PruningType, int], architecture: Architecture, widths: WidthSettings) -> int:
    """Channel units of one event: FFN channels count 1, stem channels 2, heads head_dim; per layer where `uniform`."""
    depth = len(architecture.layers) if widths.uniform else 1
    if removed["attention"]:
        return architecture.fixed.head_dim
    if removed["ffn"]:
        return max(1, removed["ffn"] // depth)
    return max(1, 2 * removed["stem"])
