"""Growing into a design: cut and repair by the schedule while the training goes on.

The saliency and the moments of the survey go on running between cuts and follow the model through each of them: an
estimate made anew from the few batches between two cuts is too noisy, and repair with it does harm.
"""

import torch

from tools.architecture import Architecture
from tools.pretraining.trainer import Report, Trainer
from tools.pruning.saliency import Saliency
from tools.pruning.saliency_meter import SaliencyMeter
from tools.pruning.schedule import DropSchedule
from tools.pruning.second_order import InputStatistics, repair
from tools.pruning.selection import plan_cut
from tools.pruning.surgery import cut
from tools.settings import Recipe


class Growth:
    """Takes the model of `trainer` from `source` to `target`; `saliency` and `statistics` are the survey's."""

    def __init__(
        self,
        trainer: Trainer,
        source: Architecture,
        target: Architecture,
        recipe: Recipe,
        saliency: Saliency,
        statistics: dict[str, torch.Tensor],
    ) -> None:
        self._trainer, self._recipe, self._current = trainer, recipe, source
        drop_steps = max(1, round(recipe.drop_share * recipe.training_steps))
        self._schedule = DropSchedule(source, target, recipe.drops, drop_steps)
        self._saliency, self._moments = saliency, statistics
        self._meter = SaliencyMeter(trainer.model, recipe.saliency)
        self._statistics = InputStatistics(trainer.model)
        if recipe.drops > 1:
            per_step = -(-recipe.batch_size // min(recipe.micro_batch_size, recipe.batch_size))
            self._meter.start_from(saliency, recipe.warmup_steps * per_step)
            self._statistics.start_from(statistics)

    def begin(self) -> None:
        """The first cut, before any training, from the survey alone; with `recipe.drops` 1 the only one."""
        self._cut(1, self._saliency, self._moments)

    def train(self, steps: int, report: Report) -> None:
        """Train for `steps` steps and make the cuts that fall into them."""
        if self._schedule.events == 1 or steps == 0:
            self._trainer.train(steps, "growing", report)
            return
        detach = self._statistics.attach()
        try:
            self._trainer.train(steps, "growing", report, self._meter, self._advance)
        finally:
            detach()

    def _advance(self, step: int) -> None:
        event = self._schedule.event_after(step)
        if event is not None:
            self._cut(event, self._meter.saliency(), self._statistics.state())

    def _cut(self, event: int, saliency: Saliency, moments: dict[str, torch.Tensor]) -> None:
        design = self._schedule.design(event)
        plan = plan_cut(self._current, design, saliency)
        if self._recipe.second_order_update:
            repair(self._trainer.model, plan, moments, self._recipe.damping)
        cut(self._trainer.model, plan, [self._trainer.optimizer])
        self._meter.keep(plan)
        self._statistics.keep(plan)
        self._current = design
