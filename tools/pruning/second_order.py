"""Local second-order repair: the inputs that stay take over what the removed ones did (EfficientLLM variant B).

Layerwise objective ||W X - W' X||^2 with H = mean of x x^T over a layer's inputs, damped by lambda I. Removing the
input columns S changes the others to the least-squares optimum (optimal brain surgeon in blocks; SparseGPT, ZipLM):

    W    <- W - W_S ([H^-1]_SS)^-1 [H^-1]_S,:          columns S become exactly zero
    H^-1 <- H^-1 - [H^-1]_:,S ([H^-1]_SS)^-1 [H^-1]_S,:    the inverse of the reduced H

lambda is a share of H's mean diagonal, raised while fewer tokens than inputs were seen, because an estimate from few
tokens does harm. Repaired are down_proj, o_proj and the readers of the stem (q, k, v and gate, up); the embedding and
the head are left alone. For the stem, RMSNorm gains are rescaled as well:

    gamma <- gamma sqrt((1 - f) d / d')     f: share of the norm's input energy in the removed channels
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from tools.pruning.blocks import Block, blocks, stem_norms
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


class InverseHessian:
    """The damped inverse of one layer's input Hessian [in, in], kept up to date while inputs are removed."""

    def __init__(self, moments: torch.Tensor, tokens: float, damping: float) -> None:
        moments = moments.float()
        width = moments.shape[0]
        alive = max(1, int((moments.diagonal() > 0).sum()))
        mean_diagonal = (moments.diagonal().sum() / alive).clamp_min(1e-12)
        share = damping * (1.0 + width / max(1.0, tokens))
        while True:
            damped = moments.clone()
            damped.diagonal().add_(share * mean_diagonal)
            factor, failed = torch.linalg.cholesky_ex(damped)
            if not failed:
                break
            share *= 10
        # LAPACK gives columns one after another, and each removal would walk across them.
        self.matrix = torch.cholesky_inverse(factor).contiguous()
        self.removed = 0

    def keep(self, indices: Indices) -> None:
        """Drop the rows and columns of inputs that no longer exist (`remove` must have been called for them)."""
        if len(indices) == self.matrix.shape[0]:
            return
        kept = torch.as_tensor(indices, device=self.matrix.device)
        self.matrix = self.matrix.index_select(0, kept).index_select(1, kept)

    def remove(self, weights: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """The change of `weights` [out, in] that removes `columns`; the inverse is reduced by them.

        The removed rows and columns of the inverse are zero afterwards, so that later changes leave them alone.
        """
        rows = self.matrix[columns]
        factor = torch.linalg.cholesky(rows[:, columns])
        solved = torch.cholesky_solve(rows, factor)
        delta = -weights[:, columns] @ solved
        # Exact where the algebra says so: rounding must leave no trace of a removed column.
        delta[:, columns] = -weights[:, columns]
        self.matrix.addmm_(rows.T, solved, alpha=-1.0)
        self.matrix.index_fill_(0, columns, 0.0).index_fill_(1, columns, 0.0)
        self.removed += len(columns)
        return delta


class Repairer:
    """Finds the changes that a cut calls for; inverses are cached between cuts and made anew every `refresh` removals.

    So the cost of an event is a solve for what is removed, not a factorisation of every layer's Hessian.
    """

    def __init__(self, model: nn.Module, damping: float, refresh: int = 64) -> None:
        self._model, self._damping, self._refresh = model, damping, refresh
        self._inverses: dict[str, InverseHessian] = {}

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
                self._inverses[name] = InverseHessian(moments, tokens, self._damping)
            columns = torch.as_tensor(removed, device=linears[0].weight.device)
            weights = [linear.weight.float() for linear in linears]
            stacked = weights[0] if len(weights) == 1 else torch.cat(weights)
            delta = self._inverses[name].remove(stacked, columns)
            for linear, part in zip(linears, delta.split([linear.weight.shape[0] for linear in linears]), strict=True):
                yield Change(linear.weight, part)
        for index, norm in enumerate(stem_norms(self._model)):
            gain = norm.get_parameter("weight")
            before = gain.shape[0] if alive is None else len(alive.stem)
            if len(plan.stem) < before:
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
        """The cached inverses and their ages, for a checkpoint."""
        found = {f"inverse.{name}": inverse.matrix for name, inverse in self._inverses.items()}
        ages = {f"removed.{name}": torch.tensor([inverse.removed]) for name, inverse in self._inverses.items()}
        return found | ages

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Go on from what `tensors` gave."""
        device = self.device
        self._inverses = {}
        for key, matrix in tensors.items():
            if key.startswith("inverse."):
                inverse = InverseHessian.__new__(InverseHessian)
                inverse.matrix = matrix.to(device, copy=True)
                inverse.removed = int(tensors["removed." + key.removeprefix("inverse.")].item())
                self._inverses[key.removeprefix("inverse.")] = inverse

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
