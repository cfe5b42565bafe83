"""Saliency from each token's own gates: the diagonal Fisher information with tokens as its samples.

`saliency_meter` squares a gate once per micro-batch, which gives one sample for hundreds of tokens. Here the gate of
each token is squared, at the activations themselves, in the same backward pass:

    FFN channel j       1/2 mean_t (a_tj dL/da_tj)^2         a: input of down_proj, L: summed loss
    head h              1/2 mean_t (sum_c a_tc dL/da_tc)^2   c: the head's inputs of o_proj; a KV group sums its heads
    stem channel i      1/2 mean_t (x_ti dL/dx_ti)^2         x: output of a norm, summed over all norms

There are many more samples between two events, and the size of a micro-batch plays no part. `python -m
benchmarks.ablation` compares the two.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from tools.pruning.blocks import blocks, stem_norms
from tools.pruning.from_device import at_once
from tools.pruning.saliency import Array, Saliency
from tools.pruning.sampling import EVERY_STEPS, token_stride
from tools.pruning.selection import CutPlan, Indices
from tools.ranks import sum_over_ranks
from tools.recomputation import recomputing


class TokenSaliencyMeter:
    """Accumulates per-token gates of a live model while attached; interface and units as `SaliencyMeter`.

    `tokens_per_micro_batch` bounds the cost: so many tokens, evenly spread, are read of each micro-batch; None leaves
    that to who attaches it.
    """

    def __init__(self, model: nn.Module, decay: float = 1.0, tokens_per_micro_batch: int | None = None) -> None:
        self._blocks = blocks(model)
        self._norms = list(stem_norms(model))
        self._decay, self._limit = decay, tokens_per_micro_batch
        self._sums: dict[str, torch.Tensor] = {}
        self._fresh: dict[str, torch.Tensor] = {}
        self._tokens, self._count = 0, 0.0
        self._sparsely = False

    @property
    def samples_tokens(self) -> bool:
        """Each token is a sample, so some of them will do."""
        return True

    def attach(self, sparsely: bool = False) -> Callable[[], None]:
        """Start reading all tokens, or `sparsely` some that stand for those of several steps; returns its end."""
        self._sparsely = sparsely
        handles = []
        for index, block in enumerate(self._blocks):
            for name, module in (("attention", block.o_proj), ("ffn", block.down_proj)):
                handles.append(module.register_forward_pre_hook(self._before(f"{name}.{index}")))
        for index, norm in enumerate(self._norms):
            handles.append(norm.register_forward_hook(self._after(f"stem.{index}")))

        def detach() -> None:
            for handle in handles:
                handle.remove()

        return detach

    def observe(self, loss_scale: float = 1.0) -> None:
        """Take in the micro-batch whose backward pass is done and whose loss was multiplied by `loss_scale`."""
        if not self._fresh:
            raise ValueError("saliency needs gradients: call observe() after backward()")
        # The loss is a mean over the micro-batch; a token's own gate is that of the sum.
        stands_for = EVERY_STEPS if self._sparsely else 1
        scale = 0.5 * stands_for * (self._tokens / loss_scale) ** 2
        for name, squares in self._fresh.items():
            squares *= scale
            self._sums[name] = self._sums[name] + squares if name in self._sums else squares
        self._fresh = {}
        self._count += stands_for

    def end_step(self) -> None:
        """Let what was seen so far fade by the decay of one optimiser step."""
        if self._decay < 1.0:
            for total in self._sums.values():
                total *= self._decay
            self._count *= self._decay

    def keep(self, plan: CutPlan) -> None:
        """Follow the model through a cut: the groups that stay keep their history."""
        kept = {"kv_group": plan.kv_groups, "query_head": plan.query_heads, "ffn": plan.ffn}
        for index in range(len(self._blocks)):
            for name, indices in kept.items():
                self._select(f"{name}.{index}", indices[index])
        for index in range(len(self._norms)):
            self._select(f"stem.{index}", plan.stem)

    def saliency(self) -> Saliency:
        """The mean over all tokens seen by all ranks. Raises ValueError before the first."""
        return self._saliency_of(self._means())

    def totals(self) -> dict[str, torch.Tensor]:
        """This rank's sums and their weight: what a checkpoint needs to go on bit for bit."""
        sums = {name: total.clone() for name, total in self._observed().items()}
        return {"count": torch.tensor([self._count], dtype=torch.float64), **sums}

    def restore(self, totals: dict[str, torch.Tensor]) -> None:
        """Go on from what `totals` gave."""
        device = self._norms[0].get_parameter("weight").device
        self._count = float(totals["count"].item())
        self._sums = {name: total.to(device, copy=True) for name, total in totals.items() if name != "count"}

    def start_from(self, saliency: Saliency, micro_batches: int) -> None:
        """Begin with what `micro_batches` earlier ones gave, so that a few new ones do not decide alone."""
        totals = {"count": torch.tensor([float(micro_batches)])}
        for index in range(len(self._blocks)):
            for name in ("kv_group", "query_head", "ffn"):
                values = torch.from_numpy(getattr(saliency, name)[index].copy())
                totals[f"{name}.{index}"] = values * micro_batches
        # How the stem's sum is shared among the norms does not matter: only the sum is read.
        share = torch.from_numpy(saliency.stem.copy()) * (micro_batches / len(self._norms))
        totals |= {f"stem.{index}": share for index in range(len(self._norms))}
        self.restore(totals)

    def _before(self, name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        return lambda module, inputs: self._watch(name, inputs[0])

    def _after(self, name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        return lambda module, inputs, output: self._watch(name, output)

    def _watch(self, name: str, activation: torch.Tensor) -> None:
        """Read the gradient of `activation` when the backward pass gets there."""
        # Without gradients it is an evaluation; a recomputed pass is read at its first one.
        if activation.requires_grad and not recomputing():
            # The hook must not hold the activation itself: it would keep its own graph alive beyond the next cut.
            values = activation.detach()
            activation.register_hook(lambda gradient: self._read(name, values, gradient))

    @torch.no_grad()
    def _read(self, name: str, activation: torch.Tensor, gradient: torch.Tensor) -> None:
        self._tokens = activation.shape[:-1].numel()
        stride = token_stride(self._tokens, self._limit, self._sparsely)
        kind, index = name.split(".")
        if kind == "attention":
            block = self._blocks[int(index)]
            read, its_gradient = (self._some_of_attention(values, stride).float() for values in (activation, gradient))
            gates_ti = read * its_gradient
            heads_th = gates_ti.view(len(gates_ti), block.num_attention_heads, -1).sum(dim=2)
            groups_tk = heads_th.view(len(gates_ti), block.num_key_value_heads, -1).sum(dim=2)
            self._add_of_attention(f"query_head.{index}", heads_th)
            self._add_of_attention(f"kv_group.{index}", groups_tk)
        else:
            self._add(name, _some(activation, stride).float() * _some(gradient, stride).float())

    def _some_of_attention(self, values_bti: torch.Tensor, stride: int) -> torch.Tensor:
        """What is read of a micro-batch's attention: every `stride`-th token, [tokens, width]."""
        return _some(values_bti, stride)

    def _add_of_attention(self, name: str, gates: torch.Tensor) -> None:
        self._add(name, gates)

    def _add(self, name: str, gates: torch.Tensor) -> None:
        squares = gates.square().mean(dim=0)
        self._fresh[name] = self._fresh[name] + squares if name in self._fresh else squares

    def _means(self) -> dict[str, Array]:
        """The mean of each sum over all that was seen by all ranks."""
        count = torch.tensor([self._count], dtype=torch.float64)

        def mean(sums: torch.Tensor) -> torch.Tensor:
            sum_over_ranks([sums, count])
            return sums / float(count.item())

        return at_once(self._observed(), mean)

    def _observed(self) -> dict[str, torch.Tensor]:
        """The sums, in one order on all ranks."""
        if not self._sums:
            raise ValueError("no micro-batch was observed yet")
        return dict(sorted(self._sums.items()))

    def _saliency_of(self, means: dict[str, Array]) -> Saliency:
        depth = range(len(self._blocks))
        return Saliency(
            kv_group=tuple(means[f"kv_group.{index}"] for index in depth),
            query_head=tuple(means[f"query_head.{index}"] for index in depth),
            ffn=tuple(means[f"ffn.{index}"] for index in depth),
            stem=np.sum([means[f"stem.{index}"] for index in range(len(self._norms))], axis=0),
        )

    def _select(self, name: str, indices: Indices) -> None:
        if name in self._sums:
            total = self._sums[name]
            self._sums[name] = total.index_select(0, torch.as_tensor(indices, device=total.device))


def _some(values_bti: torch.Tensor, stride: int) -> torch.Tensor:
    """Every `stride`-th token of a micro-batch, [tokens, width]."""
    return values_bti.flatten(0, -2)[::stride]
