"""Local second-order repair: the inputs that stay take over what the removed ones did (EfficientLLM variant B).

Layerwise objective ||W X - W' X||^2 with H = mean of x x^T over a layer's inputs, damped because an estimate from few
tokens does harm; `inverse_hessian` has the algebra. Repaired are down_proj, o_proj and the readers of the stem (q, k, v
and gate, up); the embedding and the head are left alone. For the stem, RMSNorm gains are rescaled as well:

    gamma <- gamma sqrt((1 - f) d / d')     f: share of the norm's input energy in the removed channels
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from tools.pruning.blocks import Block, blocks, embedding, stem_norms
from tools.pruning.inverse_hessian import FactoredInverse
from tools.pruning.selection import CutPlan, Indices, head_channels, removed_from


@dataclass(frozen=True)
class Change:
    """What is to be added to a Parameter: `delta` has its shape, or is a factor's excess for a gain."""

    parameter: torch.Tensor
    delta: torch.Tensor

    @torch.no_grad()
    def apply(self, share: float = 1.0) -> None:
        """Add `share` of it."""
        self.parameter.add_(self.delta.to(self.parameter.dtype), alpha=share)


class Repairer:
    """Finds the changes that a cut calls for; factors are kept between cuts and made anew every `refresh` removals.

    So the cost of an event is a solve for what is removed, not a factorisation of every layer's Hessian.
    """

    def __init__(self, model: nn.Module, damping: float, refresh: int = 64) -> None:
        self._model, self._damping, self._refresh = model, damping, refresh
        self._inverses: dict[str, FactoredInverse] = {}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self._model.parameters()).device

    @torch.no_grad()
    def changes(
        self, plan: CutPlan, statistics: Mapping[str, torch.Tensor], alive: CutPlan | None = None
    ) -> Iterator[Change]:
        """Changes for the cut to `plan`, one layer at a time; `statistics` is the `state()` of `InputStatistics`.

        Where the model is masked instead of cut, `alive` says what the last mask left, in the same indices as `plan`;
        the norms then still divide by their whole width, and the gain's d / d' is left to the later compaction.
        """
        tokens = float(statistics["tokens"].item())
        for name, linears, removed in self._sites(plan, alive):
            if len(removed) == 0:
                continue
            if self._is_stale(name, removed):
                moments = statistics[name].to(linears[0].weight.device)
                self._inverses[name] = FactoredInverse(moments, tokens, self._damping)
            columns = torch.as_tensor(removed, device=linears[0].weight.device)
            weights = [linear.weight.float() for linear in linears]
            stacked = weights[0] if len(weights) == 1 else torch.cat(weights)
            delta = self._inverses[name].remove(stacked, columns)
            for linear, part in zip(linears, delta.split([linear.weight.shape[0] for linear in linears]), strict=True):
                yield Change(linear.weight, part)
        if len(plan.stem) == (embedding(self._model).embedding_dim if alive is None else len(alive.stem)):
            return
        for index, norm in enumerate(stem_norms(self._model)):
            gain = norm.get_parameter("weight")
            factor = _gain_factor(statistics[f"stem.{index}"], plan.stem, alive)
            yield Change(gain, gain.detach().float() * (factor - 1.0))

    def keep(self, plan: CutPlan) -> None:
        """Follow the model through a physical cut."""
        for index, block in enumerate(blocks(self._model)):
            kept = {
                "down": plan.ffn[index],
                "output": head_channels(plan.query_heads[index], block.head_dim),
                "attention_input": plan.stem,
                "ffn_input": plan.stem,
            }
            for name, indices in kept.items():
                if (inverse := self._inverses.get(f"{name}.{index}")) is not None:
                    inverse.keep(indices)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The kept factors and their ages, for a checkpoint."""
        return {
            f"inverse.{part}.{name}": tensor
            for name, inverse in self._inverses.items()
            for part, tensor in inverse.tensors().items()
        }

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Go on from what `tensors` gave."""
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in tensors.items():
            if key.startswith("inverse."):
                _, part, name = key.split(".", 2)
                parts.setdefault(name, {})[part] = tensor
        self._inverses = {name: FactoredInverse.restored(found, self.device) for name, found in parts.items()}

    def _is_stale(self, name: str, removed: Indices) -> bool:
        inverse = self._inverses.get(name)
        return len(removed) > 0 and (inverse is None or inverse.removed + len(removed) > self._refresh)

    def _sites(
        self, plan: CutPlan, alive: CutPlan | None = None
    ) -> Iterator[tuple[str, tuple[nn.Linear, ...], Indices]]:
        """Every place with its own inputs: the moments' name, the projections that read them, the columns that go."""
        found = blocks(self._model)
        gone = removed_from(found[0].q_proj.in_features if alive is None else alive.stem, plan.stem)
        for index, block in enumerate(found):
            yield f"output.{index}", (block.o_proj,), _removed_heads(block, index, plan, alive)
            ffn = block.down_proj.in_features if alive is None else alive.ffn[index]
            yield f"down.{index}", (block.down_proj,), removed_from(ffn, plan.ffn[index])
            yield f"attention_input.{index}", (block.q_proj, block.k_proj, block.v_proj), gone
            yield f"ffn_input.{index}", (block.gate_proj, block.up_proj), gone


@torch.no_grad()
def repair(model: nn.Module, plan: CutPlan, statistics: Mapping[str, torch.Tensor], damping: float) -> None:
    """Change the weights that `plan` keeps so that they stand in for those it removes; call before the cut itself.

    `statistics` is the `state()` of `InputStatistics`; `damping` the share of the mean diagonal for well-known moments.
    """
    for change in Repairer(model, damping, refresh=0).changes(plan, statistics):
        change.apply()


def _removed_heads(block: Block, index: int, plan: CutPlan, alive: CutPlan | None) -> Indices:
    heads = block.num_attention_heads if alive is None else alive.query_heads[index]
    return head_channels(removed_from(heads, plan.query_heads[index]), block.head_dim)


def _gain_factor(energy: torch.Tensor, keep: Indices, alive: CutPlan | None) -> float:
    kept = torch.as_tensor(keep, device=energy.device)
    total = energy.sum() if alive is None else energy[torch.as_tensor(alive.stem, device=energy.device)].sum()
    kept_share = float(energy[kept].sum() / total.clamp_min(1e-30))
    return math.sqrt(kept_share * energy.shape[0] / len(keep)) if alive is None else math.sqrt(kept_share)
