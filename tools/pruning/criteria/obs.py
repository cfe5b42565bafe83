"""Structured optimal brain surgeon: the error of a layer's output once the others have done their best.

For input columns Q of a layer y = W x with damped Hessian H = mean of x x^T + lambda I (ZipLM, arXiv 2302.04089;
SparseGPT, arXiv 2301.00774, for single weights):

    error(Q) = tr(W_Q S^-1 W_Q^T),  S = (H^-1)_QQ

is what removing Q costs, in squared output per token, after the least-squares repair of the other columns. H is a mean
over tokens, so that layers compare.
"""

import torch
from torch import nn

from tools.pruning.criteria.contract import LayerwiseCriterion, Statistics, moments
from tools.pruning.inverse_hessian import InverseHessian

# After so many single columns the matrices are made smaller; in between the removed ones are zero.
_SHRINK_EVERY = 64
# The least that float32 can tell apart, and some.
_NEXT = 1.0 + 1e-6


class Obs(LayerwiseCriterion):
    """Error of the reader's output (o_proj, down_proj) without a group, with `damping` as in `second_order.repair`.

    Where `greedy`, groups of a layer go one after another, the cheapest first, each repaired before the next is judged,
    as ZipLM and DarwinLM do: two channels that stand in for each other are then not taken for cheap both. A group's
    value is the error that its own removal adds, so the sum over all that are removed is no less than their joint
    error. Otherwise each is judged as if it went alone. Stem channels are judged alone in both: their readers are q, k,
    v and gate, up of every block, and errors are summed over them.
    """

    def __init__(self, model: nn.Module, damping: float, greedy: bool = False) -> None:
        super().__init__(model)
        self._damping, self._greedy = damping, greedy

    def attention(self, layer: int, statistics: Statistics) -> tuple[torch.Tensor, torch.Tensor]:
        """Of one layer's key/value groups and query heads, as blocks of columns of o_proj."""
        block = self._blocks[layer]
        of_group = block.o_proj.in_features // block.num_key_value_heads
        weight, name = block.o_proj.weight, f"output.{layer}"
        return (
            self._errors(weight, statistics, name, of_group),
            self._errors(weight, statistics, name, block.head_dim),
        )

    def ffn(self, layer: int, statistics: Statistics) -> torch.Tensor:
        """Of one layer's FFN channels, as columns of down_proj."""
        return self._errors(self._blocks[layer].down_proj.weight, statistics, f"down.{layer}", 1)

    def stem(self, statistics: Statistics) -> torch.Tensor:
        """Of the stem channels."""
        total = torch.zeros(())
        for layer, block in enumerate(self._blocks):
            sites = {
                f"attention_input.{layer}": (block.q_proj, block.k_proj, block.v_proj),
                f"ffn_input.{layer}": (block.gate_proj, block.up_proj),
            }
            for name, readers in sites.items():
                weight = torch.cat([linear.weight.detach().float() for linear in readers])
                total = total + block_errors(weight, self._inverse(weight, statistics, name).matrix, 1)
        return total

    def _errors(self, weight: torch.Tensor, statistics: Statistics, name: str, size: int) -> torch.Tensor:
        weight = weight.detach().float()
        inverse = self._inverse(weight, statistics, name)
        return greedy_errors(weight, inverse, size) if self._greedy else block_errors(weight, inverse.matrix, size)

    def _inverse(self, weight: torch.Tensor, statistics: Statistics, name: str) -> InverseHessian:
        found = moments(statistics, name, weight)
        return InverseHessian(found, float(statistics["tokens"].item()), self._damping)


def block_errors(weight: torch.Tensor, inverse: torch.Tensor, size: int) -> torch.Tensor:
    """tr(W_Q S^-1 W_Q^T) for each run Q of `size` input columns: [in / size].

    `weight` is [out, in], `inverse` the inverse Hessian [in, in]. Single columns that were removed from the inverse
    count as infinite.
    """
    if size == 1:
        diagonal = inverse.diagonal()
        errors = weight.square().sum(dim=0) / diagonal
        return torch.where(diagonal > 0, errors, torch.inf)
    count = inverse.shape[0] // size
    runs = torch.arange(count, device=inverse.device)
    own = inverse.view(count, size, count, size)[runs, :, runs, :]
    columns = weight.T.reshape(count, size, -1)
    solved: torch.Tensor = torch.linalg.solve(own, columns)
    return (columns * solved).sum(dim=(1, 2)).clamp_min(0.0)


def greedy_errors(weight: torch.Tensor, inverse: InverseHessian, size: int) -> torch.Tensor:
    """What each run of `size` input columns adds to the error when all are removed one by one, cheapest first.

    [in / size]; rising in the order of removal, so that larger means later. `inverse` is used up.
    """
    weight = weight.clone()
    errors = weight.new_zeros(weight.shape[1] // size)
    places = torch.arange(len(errors), device=weight.device)
    highest = 0.0
    shrink_every = _SHRINK_EVERY if size == 1 else 1
    for removed in range(1, len(errors) + 1):
        found = block_errors(weight, inverse.matrix, size)
        cheapest = int(found.argmin())
        # A group can become cheaper once another is gone; it must still rank behind that one.
        highest = max(highest * _NEXT, float(found[cheapest]))
        errors[places[cheapest]] = highest
        columns = torch.arange(cheapest * size, (cheapest + 1) * size, device=weight.device)
        weight += inverse.remove(weight, columns)
        if removed % shrink_every == 0:
            kept = (inverse.matrix.diagonal() > 0).nonzero().squeeze(1)
            inverse.keep(kept.cpu().numpy())
            weight = weight[:, kept]
            places = places[kept[::size] // size]
    return errors
