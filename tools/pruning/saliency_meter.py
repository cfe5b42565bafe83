"""Global saliency of every minimal parameter group, read from gradients that the training makes anyway.

Put a scalar gate m = 1 on a group's activation: deleting the group changes the loss by -dL/dm to first order, and by
half the gate's Fisher information to second order. The gate's derivative is an inner product of a weight with its own
gradient (Taylor saliency, LLM-Pruner; EfficientLLM, arXiv 2502.06663, Fig. 2):

    FFN channel j            <W_down[:, j], G>
    attention channel c      <W_o[:, c], G>       a head's gate sums its channels, a KV group's its heads
    stem channel i           <gamma_l[i], G>      for each RMSNorm l that reads the stem

The sign says nothing near a minimum, so magnitudes are taken per micro-batch and averaged afterwards. To first order a
head counts as the sum of its channels' magnitudes: its own gate is a sum of 64 signed numbers that nearly cancel, which
makes whole heads look far cheaper per parameter than FFN channels, so that nearly all heads would go first. The second
order takes the gate of the whole group. `mixed` is the magnitude of the first order less the second (LLM-Pruner's
param_mix, with gates), counted like the first.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tools.pruning.blocks import blocks, stem_norms
from tools.pruning.from_device import at_once
from tools.pruning.saliency import Saliency, SaliencyOrder
from tools.pruning.selection import CutPlan
from tools.ranks import sum_over_ranks


class SaliencyMeter:
    """Accumulates the saliency of a live model, micro-batch by micro-batch.

    Call `observe` after each backward pass, before clipping, and `end_step` when gradients are cleared. Gradients of
    one step add up in `.grad`; the inner products are linear in the gradient, so a micro-batch's own value is the
    difference to the one before, and gradient accumulation does not blur the magnitudes. `decay` is the weight that
    earlier micro-batches keep per optimiser step; 1 is the plain mean over all.
    """

    def __init__(self, model: nn.Module, order: SaliencyOrder = "first", decay: float = 1.0) -> None:
        self._blocks = blocks(model)
        self._norms = list(stem_norms(model))
        self._order, self._decay = order, decay
        self._previous: list[torch.Tensor] | None = None
        self._sums: list[torch.Tensor] | None = None
        self._count = 0.0

    @property
    def samples_tokens(self) -> bool:
        """A micro-batch is one sample, and none is to spare."""
        return False

    def attach(self, sparsely: bool = False) -> Callable[[], None]:
        """Nothing to attach: all is read from `.grad`."""
        return lambda: None

    def start_from(self, saliency: Saliency, micro_batches: int) -> None:
        """Begin with what `micro_batches` earlier ones gave, so that a few new ones do not decide alone."""
        # How the stem's sum is shared among the norms does not matter: only the sum is read.
        stem = np.repeat(saliency.stem[None] / len(self._norms), len(self._norms), axis=0).astype(np.float32)
        arrays: list[npt.NDArray[np.float32]] = [*saliency.kv_group, *saliency.query_head, *saliency.ffn, stem]
        device = self._norms[0].get_parameter("weight").device
        self._sums = [torch.tensor(values * micro_batches, device=device) for values in arrays]
        self._count = float(micro_batches)

    def keep(self, plan: CutPlan) -> None:
        """Follow the model through a cut: the groups that stay keep their history."""
        if self._sums is None:
            return
        kept = [*plan.kv_groups, *plan.query_heads, *plan.ffn, plan.stem]
        self._sums = [
            values.index_select(-1, torch.as_tensor(indices, device=values.device))
            for values, indices in zip(self._sums, kept, strict=True)
        ]

    def observe(self, loss_scale: float = 1.0) -> None:
        """Read the gates of one micro-batch whose loss was multiplied by `loss_scale` before its backward pass."""
        gates = self._gates()
        fresh = gates if self._previous is None else [a - b for a, b in zip(gates, self._previous, strict=True)]
        self._previous = gates
        magnitudes = self._magnitudes([gate / loss_scale for gate in fresh])
        if self._sums is None:
            self._sums = magnitudes
        else:
            for total, magnitude in zip(self._sums, magnitudes, strict=True):
                total += magnitude
        self._count += 1

    def end_step(self) -> None:
        """Forget the running gradient sum: the next micro-batch starts from cleared gradients. Older values fade."""
        self._previous = None
        if self._sums is not None and self._decay < 1.0:
            for total in self._sums:
                total *= self._decay
            self._count *= self._decay

    def saliency(self) -> Saliency:
        """The mean over all micro-batches seen by all ranks. Raises ValueError before the first."""
        totals = self.totals()
        sum_over_ranks(list(totals.values()))
        count = float(totals["count"].item())
        depth = len(self._blocks)
        means = list(at_once({f"{index}": totals[f"sum.{index}"] / count for index in range(3 * depth + 1)}).values())
        return Saliency(
            kv_group=tuple(means[:depth]),
            query_head=tuple(means[depth : 2 * depth]),
            ffn=tuple(means[2 * depth : 3 * depth]),
            stem=means[3 * depth].sum(axis=0),
        )

    def totals(self) -> dict[str, torch.Tensor]:
        """This rank's sums and their weight: what a checkpoint needs to go on bit for bit."""
        if self._sums is None:
            raise ValueError("no micro-batch was observed yet")
        sums = {f"sum.{index}": total.clone() for index, total in enumerate(self._sums)}
        return {"count": torch.tensor([self._count], dtype=torch.float64), **sums}

    def restore(self, totals: dict[str, torch.Tensor]) -> None:
        """Go on from what `totals` gave."""
        device = self._norms[0].get_parameter("weight").device
        self._count = float(totals["count"].item())
        self._sums = [totals[f"sum.{index}"].to(device, copy=True) for index in range(len(totals) - 1)]

    @torch.no_grad()
    def _gates(self) -> list[torch.Tensor]:
        """dL/dgate of single channels: attention outputs, then FFN channels of every block; last [norms, hidden]."""
        attention = [_product(block.o_proj.weight).sum(dim=0) for block in self._blocks]
        ffn = [_product(block.down_proj.weight).sum(dim=0) for block in self._blocks]
        stem = torch.stack([_product(norm.get_parameter("weight")) for norm in self._norms])
        return [*attention, *ffn, stem]

    def _magnitudes(self, gates: list[torch.Tensor]) -> list[torch.Tensor]:
        """One micro-batch's saliency of KV groups, query heads and FFN channels of every block, and of the stem."""
        depth = len(self._blocks)
        kv_groups, query_heads = [], []
        for block, gate in zip(self._blocks, gates[:depth], strict=True):
            if self._order == "second":
                head_gates = gate.view(block.num_attention_heads, -1).sum(dim=1)
                group_gates = head_gates.view(block.num_key_value_heads, -1).sum(dim=1)
                heads, groups = 0.5 * head_gates.square(), 0.5 * group_gates.square()
            else:
                heads = self._magnitude(gate).view(block.num_attention_heads, -1).sum(dim=1)
                groups = heads.view(block.num_key_value_heads, -1).sum(dim=1)
            kv_groups.append(groups)
            query_heads.append(heads)
        return [*kv_groups, *query_heads, *(self._magnitude(gate) for gate in gates[depth:])]

    def _magnitude(self, gate: torch.Tensor) -> torch.Tensor:
        if self._order == "first":
            return gate.abs()
        if self._order == "second":
            return 0.5 * gate.square()
        return (gate - 0.5 * gate.square()).abs()


def _product(parameter: torch.Tensor) -> torch.Tensor:
    if parameter.grad is None:
        raise ValueError("saliency needs gradients: call observe() after backward()")
    return parameter.detach().float() * parameter.grad.float()
