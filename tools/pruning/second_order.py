"""Local second-order repair: the inputs that stay take over what the removed ones did (EfficientLLM variant B).

Layerwise objective ||W X - W' X||^2 with H = X X^T / n over a layer's inputs. Removing input columns S changes the
others to the least-squares optimum (optimal brain surgeon; SparseGPT, ZipLM):

    W_K <- W_K + W_S H_SK (H_KK + lambda I)^-1

H is symmetric; lambda is a share of H's mean diagonal, raised while fewer tokens than inputs were seen, because an
estimate from few tokens does harm. Repairs down_proj and o_proj; for the stem, RMSNorm gains are rescaled by

    gamma <- gamma sqrt((1 - f) d / d')     f: share of the norm's input energy in the removed channels
"""

import math
from collections.abc import Callable

import torch
from torch import nn

from tools.pruning.blocks import blocks, stem_norms
from tools.pruning.selection import CutPlan, Indices, head_channels


class InputStatistics:
    """Running second moments of layer inputs: [in, in] for down_proj and o_proj, [hidden] energies for the stem norms.

    Attach with `with statistics.recording(model):` around forward passes in training.
    """

    def __init__(self, model: nn.Module) -> None:
        found = blocks(model)
        self._head_dim = found[0].head_dim
        self._down = [_Moments(block.down_proj, full=True) for block in found]
        self._output = [_Moments(block.o_proj, full=True) for block in found]
        self._stem = [_Moments(norm, full=False) for norm in stem_norms(model)]

    def attach(self) -> Callable[[], None]:
        """Start recording; returns the function that stops it."""
        handles = [moments.attach() for _, group in self._groups() for moments in group]

        def detach() -> None:
            for handle in handles:
                handle.remove()

        return detach

    def start_from(self, state: dict[str, torch.Tensor]) -> None:
        """Begin with the moments in an earlier `state()`."""
        tokens = int(state["tokens"].item())
        for name, group in self._groups():
            for index, moments in enumerate(group):
                moments.start_from(state[f"{name}.{index}"], tokens)

    def keep(self, plan: CutPlan) -> None:
        """Follow the model through a cut."""
        for index, (down, output) in enumerate(zip(self._down, self._output, strict=True)):
            down.keep(plan.ffn[index])
            output.keep(head_channels(plan.query_heads[index], self._head_dim))
        for moments in self._stem:
            moments.keep(plan.stem)

    def state(self) -> dict[str, torch.Tensor]:
        """Means over the tokens seen, and their number, as named tensors."""
        tensors = {"tokens": torch.tensor([self._down[0].tokens], dtype=torch.int64)}
        for name, group in self._groups():
            tensors |= {f"{name}.{index}": moments.mean() for index, moments in enumerate(group)}
        return tensors

    def _groups(self) -> tuple[tuple[str, list["_Moments"]], ...]:
        return (("down", self._down), ("output", self._output), ("stem", self._stem))


class _Moments:
    """Sum of x x^T (or of x^2) over the inputs of one module, in float32."""

    def __init__(self, module: nn.Module, full: bool) -> None:
        self._module, self._full = module, full
        self._total: torch.Tensor | None = None
        self.tokens = 0

    def attach(self) -> torch.utils.hooks.RemovableHandle:
        return self._module.register_forward_pre_hook(self._record)

    def start_from(self, mean: torch.Tensor, tokens: int) -> None:
        self._total = mean.to(self._module.get_parameter("weight").device) * tokens
        self.tokens = tokens

    def keep(self, indices: Indices) -> None:
        if self._total is not None:
            kept = torch.as_tensor(indices, device=self._total.device)
            self._total = self._total[kept][:, kept] if self._full else self._total[kept]

    def mean(self) -> torch.Tensor:
        if self._total is None:
            raise ValueError("no forward pass was recorded")
        return self._total / self.tokens

    @torch.no_grad()
    def _record(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        inputs_ti = inputs[0].detach().flatten(0, -2).float()
        # Outside autocast: a bfloat16 product would round the moments to three digits.
        with torch.autocast(inputs_ti.device.type, enabled=False):
            fresh = inputs_ti.T @ inputs_ti if self._full else inputs_ti.square().sum(dim=0)
        self._total = fresh if self._total is None else self._total.add_(fresh)
        self.tokens += inputs_ti.shape[0]


@torch.no_grad()
def repair(model: nn.Module, plan: CutPlan, statistics: dict[str, torch.Tensor], damping: float) -> None:
    """Change the weights that `plan` keeps so that they stand in for those it removes; call before the cut itself.

    `statistics` is the `state()` of `InputStatistics`; `damping` the share of the mean diagonal for well-known moments.
    """
    tokens = int(statistics["tokens"].item())
    for index, block in enumerate(blocks(model)):
        head_columns = head_channels(plan.query_heads[index], block.head_dim)
        _take_over(block.o_proj, head_columns, statistics[f"output.{index}"], damping, tokens)
        _take_over(block.down_proj, plan.ffn[index], statistics[f"down.{index}"], damping, tokens)
    for index, norm in enumerate(stem_norms(model)):
        _rescale_gain(norm, plan.stem, statistics[f"stem.{index}"])


def _take_over(linear: nn.Linear, keep: Indices, moments: torch.Tensor, damping: float, tokens: int) -> None:
    weight = linear.weight
    width = weight.shape[1]
    if len(keep) == width:
        return
    moments = moments.to(weight.device, torch.float32)
    kept = torch.as_tensor(keep, device=weight.device)
    removed_mask = torch.ones(width, dtype=torch.bool, device=weight.device)
    removed_mask[kept] = False
    removed = removed_mask.nonzero().squeeze(1)
    kept_moments = moments[kept][:, kept]
    delta = weight.float()[:, removed] @ moments[removed][:, kept]
    factor = _damped_cholesky(kept_moments, damping * (1.0 + width / tokens))
    weight[:, kept] += torch.cholesky_solve(delta.T, factor).T.to(weight.dtype)


def _damped_cholesky(moments: torch.Tensor, damping: float) -> torch.Tensor:
    """Cholesky factor of moments + lambda I; lambda grows tenfold until it exists."""
    mean_diagonal = moments.diagonal().mean().clamp_min(1e-12)
    identity = torch.eye(moments.shape[0], device=moments.device)
    while True:
        factor, failed = torch.linalg.cholesky_ex(moments + damping * mean_diagonal * identity)
        if not failed:
            return torch.as_tensor(factor)
        damping *= 10


def _rescale_gain(norm: nn.Module, keep: Indices, energy: torch.Tensor) -> None:
    gain = norm.get_parameter("weight")
    width = gain.shape[0]
    if len(keep) == width:
        return
    kept_share = float(energy[torch.as_tensor(keep)].sum() / energy.sum().clamp_min(1e-30))
    gain.mul_(math.sqrt(kept_share * width / len(keep)))
