"""Removes groups from a live model: repair, mask or cut, with statistics and optimiser following.

A cut makes the model physically smaller, for which all that is left of a layer is copied. So a small one only zeroes
both sides of its groups, which training leaves at zero, and the model is compacted when these are a hundredth of it, or
every `compact_every` cuts; the two give the same logits.
With `update_steps` above 1 a repair and its removal are spread over as many optimiser steps.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from tools.architecture import Architecture
from tools.pruning.alive import compose, everything, of_alive
from tools.pruning.blocks import blocks
from tools.pruning.input_statistics import InputStatistics
from tools.pruning.masking import mask
from tools.pruning.ranking import Ranking
from tools.pruning.saliency import Saliency
from tools.pruning.second_order import Change, Repairer
from tools.pruning.selection import CutPlan, head_channels, plan_cut
from tools.pruning.surgery import compact, cut
from tools.ranks import broadcast_from_first
from tools.settings import Recipe

COMPACT_SHARE = 0.01
"""The share of the parameters that may be zeros before the model is made physically smaller."""


@dataclass
class _Pending:
    """A removal that is spread over optimiser steps."""

    plan: CutPlan
    changes: list[Change]
    steps_left: int


class Pruner:
    """Cuts `model`, whose living part is `architecture`, design by design.

    `compactions` counts physical cuts; a compiled model has to be compiled anew after each.
    """

    def __init__(
        self,
        model: nn.Module,
        architecture: Architecture,
        recipe: Recipe,
        ranking: Ranking,
        statistics: InputStatistics,
        optimizers: Sequence[torch.optim.Optimizer],
    ) -> None:
        self.architecture = architecture
        self.compactions = 0
        self._model, self._recipe, self._ranking = model, recipe, ranking
        self._statistics, self._optimizers = statistics, optimizers
        self._repairer = Repairer(model, recipe.damping, recipe.refresh_removals)
        self._alive = everything(architecture)
        self._physical = architecture.parameters
        self._masked = 0
        self._pending: _Pending | None = None

    def saliency(self) -> Saliency:
        """The saliency of the groups that are alive."""
        return of_alive(self._ranking.saliency(), self._alive)

    @property
    def is_removing(self) -> bool:
        """Whether a removal is spread over steps that are still to come."""
        return self._pending is not None

    def remove(self, target: Architecture, saliency: Saliency | None = None) -> None:
        """Cut down to `target`, a part of `architecture`; no graph may be alive. A removal under way ends first.

        `saliency` is what `saliency()` gives now, where it has been read already.
        """
        if self._pending is not None:
            # Its groups are in what was read.
            saliency = None
            self._finish_pending()
        plan = compose(self._alive, plan_cut(self.architecture, target, saliency or self.saliency()))
        self.architecture = target
        changes = self._changes(plan)
        if self._recipe.update_steps == 1:
            for change in changes:
                change.apply()
            # Solvers need not round alike on every machine, and ranks must not drift apart.
            broadcast_from_first(self._model.parameters())
            self._take_away(plan)
        else:
            self._pending = _Pending(plan, list(changes), self._recipe.update_steps)
            self.after_step()

    def after_step(self) -> None:
        """Go one step on with a removal that is spread over several; call after each optimiser step."""
        if self._pending is None:
            return
        for change in self._pending.changes:
            change.apply(1.0 / self._recipe.update_steps)
        broadcast_from_first(self._model.parameters())
        self._pending.steps_left -= 1
        if self._pending.steps_left == 0:
            plan, self._pending = self._pending.plan, None
            self._take_away(plan)

    def finish(self) -> None:
        """End a removal under way and make the model physically as small as its design."""
        self._finish_pending()
        if self._masked:
            self._compact()

    def _finish_pending(self) -> None:
        while self._pending is not None:
            self.after_step()

    def _changes(self, plan: CutPlan) -> Iterable[Change]:
        """Changes of the weights before the cut, made one layer at a time as they are taken."""
        if self._recipe.second_order_update:
            if self._masked:
                # A masked query head of a living group still has inputs of o_proj, which nobody reads.
                self._statistics.forget_heads(self._alive)
            alive = self._alive if self._masks else None
            return self._repairer.changes(plan, self._statistics.means(), alive)
        return _fading(self._model, plan) if self._recipe.update_steps > 1 else ()

    def _take_away(self, plan: CutPlan) -> None:
        if not self._masks:
            cut(self._model, plan, self._optimizers)
            self._follow(plan)
            return
        mask(self._model, plan, self._optimizers, alive=self._alive if self._masked else None)
        self._statistics.forget(self._alive, plan)
        self._alive = plan
        self._masked += 1
        every = self._recipe.compact_every
        if self._has_many_zeros if every is None else self._masked == every:
            self._compact()

    @property
    def _masks(self) -> bool:
        """Whether the removal that leads to `architecture` begins as zeros."""
        every = self._recipe.compact_every
        return (self._masked > 0 or not self._has_many_zeros) if every is None else every > 1

    @property
    def _has_many_zeros(self) -> bool:
        return self._physical - self.architecture.parameters >= COMPACT_SHARE * self._physical

    def _compact(self) -> None:
        plan = self._alive
        compact(self._model, plan, self._optimizers)
        self._follow(plan)

    def _follow(self, plan: CutPlan) -> None:
        self._ranking.keep(plan)
        self._statistics.keep(plan)
        self._repairer.keep(plan)
        self._alive, self._masked = everything(self.architecture), 0
        self._physical = self.architecture.parameters
        self.compactions += 1

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a checkpoint needs beside the design, the weights and the statistics to go on bit for bit."""
        found = self._repairer.tensors() | _plan_tensors("alive", self._alive)
        found["masked"] = torch.tensor([self._masked])
        found["compactions"] = torch.tensor([self.compactions])
        if self._pending is not None:
            names = {id(parameter): name for name, parameter in self._model.named_parameters()}
            found |= _plan_tensors("pending", self._pending.plan)
            found |= {f"change.{names[id(change.parameter)]}": change.delta for change in self._pending.changes}
            found["pending.steps_left"] = torch.tensor([self._pending.steps_left])
        return {name: tensor.contiguous() for name, tensor in found.items()}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Go on from what `tensors` gave; the model must have the physical shape of that moment."""
        self._repairer.restore(tensors)
        self._alive = _plan_from(tensors, "alive")
        self._masked = int(tensors["masked"].item())
        self.compactions = int(tensors["compactions"].item())
        if self._masked:
            # A mask is more than zeros: it holds gradients back where zeros alone would not stay.
            mask(self._model, self._alive, self._optimizers)
        if "pending.steps_left" in tensors:
            parameters = dict(self._model.named_parameters())
            changes = [
                Change(parameters[name.removeprefix("change.")], delta.to(self._repairer.device))
                for name, delta in tensors.items()
                if name.startswith("change.")
            ]
            steps_left = int(tensors["pending.steps_left"].item())
            self._pending = _Pending(_plan_from(tensors, "pending"), changes, steps_left)


def _fading(model: nn.Module, plan: CutPlan) -> Iterator[Change]:
    """Changes that only bring the removed input columns to zero."""
    for index, block in enumerate(blocks(model)):
        kept = {
            block.o_proj: head_channels(plan.query_heads[index], block.head_dim),
            block.down_proj: plan.ffn[index],
            **dict.fromkeys(block.stem_readers, plan.stem),
        }
        for linear, indices in kept.items():
            if len(indices) < linear.in_features:
                delta = -linear.weight.detach().float()
                delta[:, torch.as_tensor(indices, device=delta.device)] = 0.0
                yield Change(linear.weight, delta)


def _plan_tensors(prefix: str, plan: CutPlan) -> dict[str, torch.Tensor]:
    tensors = {f"{prefix}.stem": torch.from_numpy(plan.stem)}
    for name in ("kv_groups", "query_heads", "ffn"):
        for index, indices in enumerate(getattr(plan, name)):
            tensors[f"{prefix}.{name}.{index}"] = torch.from_numpy(indices)
    return tensors


def _plan_from(tensors: dict[str, torch.Tensor], prefix: str) -> CutPlan:
    depth = sum(name.startswith(f"{prefix}.ffn.") for name in tensors)
    per_layer = {
        name: tuple(tensors[f"{prefix}.{name}.{index}"].numpy() for index in range(depth))
        for name in ("kv_groups", "query_heads", "ffn")
    }
    return CutPlan(stem=tensors[f"{prefix}.stem"].numpy(), **per_layer)
