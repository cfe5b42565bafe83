"""Growing: training and pruning at once, by a policy that says when groups go.

Saliency and input moments run on between events and follow the model through each of them: an estimate made anew from
the few batches between two events is too noisy, and repair with it does harm. After the last event nothing is recorded
any more, and training goes on at full speed.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache

import torch

from tools.architecture import Architecture
from tools.pretraining.trainer import Report, Trainer
from tools.pruning.drop_event import DropEvent, pruned_share, removed_between
from tools.pruning.drop_policy import DropPolicy, TowardsDesign
from tools.pruning.greedy import SaliencyDesigner
from tools.pruning.input_statistics import InputStatistics
from tools.pruning.pruner import Pruner
from tools.pruning.ranking import make_ranking
from tools.pruning.recording import Recording
from tools.pruning.saliency import Saliency
from tools.pruning.schedule import DropSchedule
from tools.ranks import sum_over_ranks, world_size
from tools.settings import Recipe, SpaceSettings


class Growth:
    """Trains the model of `trainer` while `policy` drops groups through `pruner`.

    `source` is what shares are relative to; `widths` only says in which steps the recorded saliency is meant.
    `after_cut` is called after each physical cut, when compiled code has to be made anew.
    """

    def __init__(
        self,
        trainer: Trainer,
        pruner: Pruner,
        policy: DropPolicy,
        recording: Recording,
        source: Architecture,
        widths: SpaceSettings,
        after_cut: Callable[[], None] | None = None,
    ) -> None:
        self.events: list[DropEvent] = []
        self._trainer, self._pruner, self._policy = trainer, pruner, policy
        self._recording = recording
        self._source, self._widths = source, widths
        self.after_event: Callable[[DropEvent], None] = lambda event: None
        self._after_cut = after_cut

    @classmethod
    def into_design(
        cls,
        trainer: Trainer,
        source: Architecture,
        target: Architecture,
        recipe: Recipe,
        saliency: Saliency,
        statistics: dict[str, torch.Tensor],
        seed: int = 0,
        physical: Architecture | None = None,
    ) -> "Growth":
        """Growth from a surveyed `source` to `target` in `recipe.drops` events; the survey's figures run on.

        The first event comes in `begin()`, after the steps of the warm-up. `physical` is the shape of a model that was
        begun before; `restore` puts the rest where it was. Raises InputError where the events do not fit in the steps.
        """
        per_step = -(-recipe.batch_size // min(recipe.micro_batch_size, recipe.batch_size))
        moments = InputStatistics(trainer.model, recipe.moment_decay, recipe.moment_tokens)
        moments.start_from(statistics)
        ranking = make_ranking(recipe, trainer.model, moments, seed)
        ranking.start_from(saliency, recipe.warmup_steps * per_step)
        drop_steps = max(1, round(recipe.drop_share * recipe.training_steps))
        policy = TowardsDesign(DropSchedule(source, target, recipe.drops, drop_steps), first=recipe.warmup_steps)
        pruner = Pruner(trainer.model, physical or source, recipe, ranking, moments, [trainer.optimizer])
        widths = SpaceSettings(max_parameters=target.parameters, ffn_multiple=1, hidden_multiple=1)
        return cls(trainer, pruner, policy, Recording(ranking, moments), source, widths)

    def calibrate(self, steps: int, report: Report) -> None:
        """Take statistics from the first `steps` batches without training on them: dropping can then start at once."""
        self._recording.start()
        try:
            self._trainer.look(steps, "taking saliency", report, self._recording)
        finally:
            self._recording.stop()

    def begin(self) -> None:
        """Make the event that is due before any step, if the policy wants one."""
        self._advance(self._trainer.step)

    def train(self, steps: int, report: Report, after_step: Callable[[int], None] | None = None) -> None:
        """Train for `steps` steps and make the events that fall into them; `after_step` comes after each of both."""

        def after(done: int) -> None:
            self._pruner.after_step()
            self._advance(self._trainer.step)
            self._recording.prepare()
            if after_step is not None:
                after_step(done)

        try:
            if not self._is_finished(self._trainer.step):
                self._recording.start()
            self._trainer.train(steps, "growing", report, self._recording, after)
        finally:
            self._recording.stop()

    def end(self) -> None:
        """The training is over: end a removal that is under way, and make the model as small as its design."""
        compactions = self._pruner.compactions
        self._pruner.finish()
        if self._after_cut is not None and self._pruner.compactions > compactions:
            self._after_cut()

    def unrecorded(self) -> AbstractContextManager[None]:
        """Within the block the model may be used for something else than its training."""
        return self._recording.paused()

    @property
    def design(self) -> Architecture:
        """What is alive of the model."""
        return self._pruner.architecture

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a checkpoint needs beside weights, design and events; statistics are sums over all ranks."""
        if self._is_finished(self._trainer.step):
            return {}
        found = {f"pruner.{name}": tensor for name, tensor in self._pruner.tensors().items()}
        for prefix, totals in self._totals().items():
            sum_over_ranks(list(totals.values()))
            found |= {f"{prefix}.{name}": tensor for name, tensor in totals.items()}
        return found | {"recording.steps": torch.tensor([self._recording.steps])}

    def restore(self, tensors: dict[str, torch.Tensor], design: Architecture, events: list[DropEvent]) -> None:
        """Go on from what `tensors` gave; the model has the physical shape of that moment."""
        self.events = list(events)
        self._pruner.architecture = design
        if not tensors:
            return
        # Each rank has its share of what all have seen.
        share = 1.0 / world_size()
        self._pruner.restore(_under("pruner", tensors))
        self._recording.steps = int(tensors["recording.steps"].item())
        self._recording.ranking.restore({name: total * share for name, total in _under("ranking", tensors).items()})
        self._recording.statistics.restore({name: total * share for name, total in _under("moments", tensors).items()})

    def _advance(self, step: int) -> None:
        current, compactions = self._pruner.architecture, self._pruner.compactions
        # Read at most once: on a device it waits for all work that is under way.
        saliency = cache(self._pruner.saliency)
        target = self._policy.design_after(step, current, self.events, saliency)
        if target is not None and target != current:
            designer = SaliencyDesigner(current, saliency(), self._widths)
            least = designer.least_salient(current)
            self._pruner.remove(target, saliency())
            event = DropEvent(
                number=len(self.events) + 1,
                step=step,
                tokens=self._trainer.tokens,
                least_saliency=least,
                removed=removed_between(current, target),
                pruned_share=pruned_share(self._source, target),
                parameters=target.parameters,
                hidden_size=target.hidden_size,
            )
            self.events.append(event)
            self.after_event(event)
        if self._is_finished(step):
            self._pruner.finish()
            self._recording.stop()
        if self._after_cut is not None and self._pruner.compactions > compactions:
            self._after_cut()

    def _is_finished(self, step: int) -> bool:
        finished = self._policy.is_finished(step, self._pruner.architecture, self.events)
        return finished and not self._pruner.is_removing

    def _totals(self) -> dict[str, dict[str, torch.Tensor]]:
        return {"ranking": self._recording.ranking.totals(), "moments": self._recording.statistics.totals()}


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose names start with `prefix.`, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
