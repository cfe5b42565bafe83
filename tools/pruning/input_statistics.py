"""Running statistics of layer inputs, taken from the forward passes that training makes anyway.

Second moments H = mean of x x^T are the local Hessian of the objective ||W X - W' X||^2 (EfficientLLM, arXiv
2502.06663, Fig. 2, "Local Second-Order Weight Update"; SparseGPT). Means tell how much an input fluctuates (FLAP).
"""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import nn

from tools.pruning.blocks import blocks, stem_norms
from tools.pruning.sampling import EVERY_STEPS, enough_seen, token_stride
from tools.pruning.selection import CutPlan, Indices, head_channels, removed_from
from tools.ranks import sum_over_ranks, world_size
from tools.recomputation import recomputing


class InputStatistics:
    """Running moments of the inputs of every projection that can lose some, in float32.

    `decay` is the weight that earlier tokens keep per optimiser step; 1 is the plain mean over all tokens seen.
    `tokens_per_micro_batch` bounds the cost: so many tokens, evenly spread, are taken from each forward pass; None
    leaves that to who attaches it. Recording lasts from `attach()` until the function that it returns is called.
    """

    def __init__(self, model: nn.Module, decay: float = 1.0, tokens_per_micro_batch: int | None = None) -> None:
        found = blocks(model)
        self._head_dim, self._decay = found[0].head_dim, decay
        self._limit = limit = tokens_per_micro_batch
        self._down = [_Moments(block.down_proj, limit, full=True, mean=True) for block in found]
        self._output = [_Moments(block.o_proj, limit, full=True, mean=True) for block in found]
        self._attention_input = [_Moments(block.q_proj, limit, full=True) for block in found]
        self._ffn_input = [_Moments(block.gate_proj, limit, full=True) for block in found]
        self._stem = [_Moments(norm, limit, full=False) for norm in stem_norms(model)]

    @property
    def knows_enough(self) -> bool:
        """Whether it does from now on to read some steps, and these sparsely."""
        # What the other ranks have seen counts too, so that as much is known with any number of ranks.
        seen = self._down[0].tokens * world_size()
        return self._limit is None and enough_seen(seen, max(moments.width for moments in self._down))

    def attach(self, sparsely: bool = False) -> Callable[[], None]:
        """Start recording all tokens, or `sparsely` some that stand for those of several steps; returns its end."""
        handles = [moments.attach(sparsely) for _, group in self._groups() for moments in group]

        def detach() -> None:
            for handle in handles:
                handle.remove()

        return detach

    def end_step(self) -> None:
        """Let what was seen so far fade by the decay of one optimiser step."""
        if self._decay < 1.0:
            for _, group in self._groups():
                for moments in group:
                    moments.fade(self._decay)

    def start_from(self, state: dict[str, torch.Tensor]) -> None:
        """Begin with the moments in an earlier `state()`."""
        tokens = float(state["tokens"].item())
        for name, group in self._groups():
            for index, moments in enumerate(group):
                moments.start_from(state[f"{name}.{index}"], state.get(f"{name}_mean.{index}"), tokens)

    def keep(self, plan: CutPlan) -> None:
        """Follow the model through a cut."""
        for index in range(len(self._down)):
            self._down[index].keep(plan.ffn[index])
            self._output[index].keep(head_channels(plan.query_heads[index], self._head_dim))
            self._attention_input[index].keep(plan.stem)
            self._ffn_input[index].keep(plan.stem)
        for moments in self._stem:
            moments.keep(plan.stem)

    def forget(self, alive: CutPlan, plan: CutPlan) -> None:
        """Set to zero what was seen of groups that `plan` masks of those `alive`: their inputs are zero from now on."""
        stem = removed_from(alive.stem, plan.stem)
        for index in range(len(self._down)):
            heads = removed_from(alive.query_heads[index], plan.query_heads[index])
            self._down[index].forget(removed_from(alive.ffn[index], plan.ffn[index]))
            self._output[index].forget(head_channels(heads, self._head_dim))
            self._attention_input[index].forget(stem)
            self._ffn_input[index].forget(stem)
        for moments in self._stem:
            moments.forget(stem)

    def forget_heads(self, plan: CutPlan) -> None:
        """Set to zero what was seen of masked query heads: where their group lives, inputs still come."""
        for moments, kept in zip(self._output, plan.query_heads, strict=True):
            heads = removed_from(moments.width // self._head_dim, kept)
            moments.forget(head_channels(heads, self._head_dim))

    def state(self) -> dict[str, torch.Tensor]:
        """Means over the tokens seen by all ranks, and their number, as named tensors.

        tokens: [1]; down.l, output.l, attention_input.l, ffn_input.l: [in, in]; down_mean.l, output_mean.l: [in];
        stem.n: [hidden_size], mean squares of the inputs of norm n. Raises ValueError before the first forward pass.
        """
        return dict(self.means())

    def means(self) -> Mapping[str, torch.Tensor]:
        """The same as `state`, each tensor made when it is asked for; all ranks must ask for the same ones."""
        return _Means(self)

    def totals(self) -> dict[str, torch.Tensor]:
        """This rank's sums, as `state` names their means: what a checkpoint needs to go on bit for bit."""
        tokens = torch.tensor([self._down[0].tokens], dtype=torch.float64)
        return {"tokens": tokens, **{name: self.moments(name)[0] for name in self.names()}}

    def restore(self, totals: dict[str, torch.Tensor]) -> None:
        """Go on from what `totals` gave."""
        tokens = float(totals["tokens"].item())
        for name, group in self._groups():
            for index, moments in enumerate(group):
                moments.restore(totals[f"{name}.{index}"], totals.get(f"{name}_mean.{index}"), tokens)

    def moments(self, name: str) -> tuple[torch.Tensor, float]:
        """A copy of this rank's sum under one name of `state`, and its number of tokens."""
        group, index = name.rsplit(".", 1)
        moments = dict(self._groups())[group.removesuffix("_mean")][int(index)]
        return moments.total(group.endswith("_mean")).clone(), moments.tokens

    def names(self) -> list[str]:
        """The names of all sums, without the number of tokens."""
        return [
            key
            for name, group in self._groups()
            for index, entry in enumerate(group)
            for key in entry.keys(name, index)
        ]

    def _groups(self) -> tuple[tuple[str, list["_Moments"]], ...]:
        return (
            ("down", self._down),
            ("output", self._output),
            ("attention_input", self._attention_input),
            ("ffn_input", self._ffn_input),
            ("stem", self._stem),
        )


class _Means(Mapping[str, torch.Tensor]):
    """Means over all ranks, made on demand."""

    def __init__(self, statistics: InputStatistics) -> None:
        self._statistics = statistics
        self._names = ["tokens", *statistics.names()]

    def __getitem__(self, name: str) -> torch.Tensor:
        if name == "tokens":
            total, tokens = torch.zeros(1), self._statistics.moments("down.0")[1]
        else:
            total, tokens = self._statistics.moments(name)
        count = torch.tensor([tokens], dtype=torch.float64, device=total.device)
        sum_over_ranks([total, count])
        return count.cpu() if name == "tokens" else total / float(count.item())

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _Moments:
    """Sums of x x^T (or of x^2), and of x where asked, over the inputs of one module."""

    def __init__(self, module: nn.Module, limit: int | None, full: bool, mean: bool = False) -> None:
        self._module, self._limit, self._full, self._with_mean = module, limit, full, mean
        self._total: torch.Tensor | None = None
        self._mean_total: torch.Tensor | None = None
        self._sparsely = False
        self.tokens = 0.0

    @property
    def width(self) -> int:
        return self._module.get_parameter("weight").shape[-1]

    def attach(self, sparsely: bool) -> torch.utils.hooks.RemovableHandle:
        self._sparsely = sparsely
        return self._module.register_forward_pre_hook(self._record)

    def start_from(self, moment: torch.Tensor, mean: torch.Tensor | None, tokens: float) -> None:
        self.restore(moment * tokens, None if mean is None else mean * tokens, tokens)

    def restore(self, total: torch.Tensor, mean_total: torch.Tensor | None, tokens: float) -> None:
        device = self._module.get_parameter("weight").device
        # Copies: recording adds in place, and the caller may start several models from the same tensors.
        self._total = total.to(device, torch.float32, copy=True)
        self._mean_total = None if mean_total is None else mean_total.to(device, torch.float32, copy=True)
        self.tokens = tokens

    def fade(self, decay: float) -> None:
        if self._total is not None:
            self._total *= decay
            self.tokens *= decay
        if self._mean_total is not None:
            self._mean_total *= decay

    def keep(self, indices: Indices) -> None:
        # Most layers lose nothing in an event, and copying all moments would be most of what it costs.
        if self._total is None or len(indices) == self._total.shape[-1]:
            return
        kept = torch.as_tensor(indices, device=self._total.device)
        for dimension in range(self._total.ndim):
            self._total = self._total.index_select(dimension, kept)
        if self._mean_total is not None:
            self._mean_total = self._mean_total.index_select(0, kept)

    def forget(self, gone: Indices) -> None:
        for total in (self._total, self._mean_total):
            if total is not None and len(gone):
                index = torch.as_tensor(gone, device=total.device)
                for dimension in range(total.ndim):
                    total.index_fill_(dimension, index, 0.0)

    def keys(self, name: str, index: int) -> list[str]:
        return [f"{name}.{index}", *([f"{name}_mean.{index}"] if self._with_mean else [])]

    def total(self, mean: bool) -> torch.Tensor:
        found = self._mean_total if mean else self._total
        if found is None:
            raise ValueError("no forward pass was recorded")
        return found

    @torch.no_grad()
    def _record(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if recomputing():
            return
        inputs_ti = inputs[0].detach().flatten(0, -2)
        stride = token_stride(inputs_ti.shape[0], self._limit, self._sparsely)
        # What is read stands for all, so that earlier and later tokens weigh the same.
        weight = (EVERY_STEPS if self._sparsely else 1) * inputs_ti.shape[0] / len(inputs_ti[::stride])
        inputs_ti = inputs_ti[::stride].float()
        # Outside autocast: a bfloat16 product would round the moments to three digits.
        with torch.autocast(inputs_ti.device.type, enabled=False):
            if self._total is None:
                width = inputs_ti.shape[1]
                self._total = inputs_ti.new_zeros((width, width) if self._full else (width,))
                self._mean_total = inputs_ti.new_zeros(width) if self._with_mean else None
            if self._full:
                self._total.addmm_(inputs_ti.T, inputs_ti, alpha=weight)
            else:
                self._total.add_(inputs_ti.square().sum(dim=0), alpha=weight)
            if self._mean_total is not None:
                self._mean_total.add_(inputs_ti.sum(dim=0), alpha=weight)
        self.tokens += inputs_ti.shape[0] * weight
