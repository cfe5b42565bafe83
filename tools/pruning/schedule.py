"""Continuous dropping: which design the model has after which optimiser step, from the source to an exact target.

EfficientLLM (arXiv 2502.06663, Fig. 2) drops one channel every N steps. Here target and steps are given, and each event
drops as many groups as it takes to arrive on time: after a share p of the events, every width has gone the share p of
its way. One event is the one-shot limit. The schedule is a pure function of the step, so it survives a restart.
"""

from dataclasses import dataclass

from tools.architecture import Architecture, LayerShape
from tools.errors import InputError


@dataclass(frozen=True)
class DropSchedule:
    """`events` cuts, evenly spread over `steps` optimiser steps; the first comes before any of them.

    Raises InputError where there are fewer steps than events: some cuts would fall together.
    """

    source: Architecture
    target: Architecture
    events: int
    steps: int

    def __post_init__(self) -> None:
        if self.events < 1 or self.events > max(1, self.steps):
            raise InputError(
                f"{self.events} drops do not fit in {self.steps} training steps: set recipe.drops between 1 and that."
            )

    def event_after(self, step: int) -> int | None:
        """The number of the cut (from 1) that is due when `step` steps of training are done, or None."""
        for event in range(1, self.events + 1):
            if (event - 1) * self.steps // self.events == step:
                return event
        return None

    def design(self, event: int) -> Architecture:
        """The design after cut number `event`; after the last one exactly the target."""
        layers = [
            self._between(old, new, event) for old, new in zip(self.source.layers, self.target.layers, strict=True)
        ]
        hidden = self._width(self.source.hidden_size, self.target.hidden_size, event)
        return Architecture(fixed=self.source.fixed, hidden_size=hidden, layers=tuple(layers))

    def _between(self, old: LayerShape, new: LayerShape, event: int) -> LayerShape:
        groups = self._width(old.num_key_value_heads, new.num_key_value_heads, event)
        old_ratio = old.num_attention_heads // old.num_key_value_heads
        new_ratio = new.num_attention_heads // new.num_key_value_heads
        return LayerShape(
            num_attention_heads=groups * self._width(old_ratio, new_ratio, event),
            num_key_value_heads=groups,
            intermediate_size=self._width(old.intermediate_size, new.intermediate_size, event),
        )

    def _width(self, old: int, new: int, event: int) -> int:
        return old - (old - new) * event // self.events
