"""The inverse of a layer's damped input Hessian while inputs are removed: as a matrix, and as factors.

Removing the input columns S changes the weights of the others to the least-squares optimum, and takes a product from
the inverse (optimal brain surgeon in blocks; SparseGPT, ZipLM), with R = [H^-1]_S,: and V = chol([H^-1]_SS)^-1 R:

    W    <- W - W_S ([H^-1]_SS)^-1 R         columns S become exactly zero
    H^-1 <- H^-1 - V^T V                     the inverse of the reduced H

`InverseHessian` has the matrix, which a criterion reads whole after each removal. `FactoredInverse` never makes it: few
rows of it are ever asked for by a repair, and two triangular solves give them. Of n inputs, of which r were removed, k
more cost n^2 k + n r k multiplications instead of n^3 once and n^2 k each time, and nothing of size n^2 is written.
"""

import torch

from tools.pruning.selection import Indices


def damped_cholesky(moments: torch.Tensor, tokens: float, damping: float) -> torch.Tensor:
    """The lower Cholesky factor [in, in] of H + lambda I, H being `moments` [in, in] of `tokens` tokens, in float32.

    lambda is `damping` times H's mean diagonal, raised while fewer tokens than inputs were seen, and tenfold as often
    as it takes until H is positive definite.
    """
    moments = moments.float()
    width = moments.shape[0]
    alive = max(1, int((moments.diagonal() > 0).sum()))
    mean_diagonal = (moments.diagonal().sum() / alive).clamp_min(1e-12)
    share = damping * (1.0 + width / max(1.0, tokens))
    while True:
        damped = moments.clone()
        damped.diagonal().add_(share * mean_diagonal)
        factor: torch.Tensor
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            return factor
        share *= 10


class InverseHessian:
    """The damped inverse of one layer's input Hessian [in, in], kept up to date while inputs are removed."""

    def __init__(self, moments: torch.Tensor, tokens: float, damping: float) -> None:
        # LAPACK gives columns one after another, and each removal would walk across them.
        self.matrix = torch.cholesky_inverse(damped_cholesky(moments, tokens, damping)).contiguous()

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
        self.matrix.addmm_(rows.T, solved, alpha=-1.0)
        self.matrix.index_fill_(0, columns, 0.0).index_fill_(1, columns, 0.0)
        return _change(weights, columns, solved)


class FactoredInverse:
    """The same by its factors.

    They are those of the moments that it was made from: L, and the rows V of all removals so far, [removed, in].
    """

    def __init__(self, moments: torch.Tensor, tokens: float, damping: float) -> None:
        self._factor = damped_cholesky(moments, tokens, damping)
        width = self._factor.shape[0]
        self._taken = self._factor.new_zeros((0, width))
        self._gone = torch.zeros(width, dtype=torch.bool, device=self._factor.device)
        self._present = torch.arange(width, device=self._factor.device)

    @property
    def removed(self) -> int:
        """How many inputs went."""
        return len(self._taken)

    def keep(self, indices: Indices) -> None:
        """Renumber the inputs: those that no longer exist, for which `remove` must have been called, have no number."""
        if len(indices) < len(self._present):
            self._present = self._present[torch.as_tensor(indices, device=self._present.device)]

    def remove(self, weights: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """The change of `weights` [out, in] that removes `columns`; later changes leave these alone."""
        places = self._present[columns]
        chosen = self._factor.new_zeros((self._factor.shape[0], len(places)))
        chosen[places, torch.arange(len(places), device=places.device)] = 1.0
        solved = torch.linalg.solve_triangular(self._factor, chosen, upper=False)
        rows = torch.linalg.solve_triangular(self._factor.mT, solved, upper=True).mT
        if len(self._taken):
            rows = torch.addmm(rows, self._taken[:, places].mT, self._taken, alpha=-1.0)
            # Exact where the algebra says so: rounding must not bring a removed column back.
            rows = rows.masked_fill(self._gone, 0.0)
        own = torch.linalg.cholesky(rows[:, places])
        taken = torch.linalg.solve_triangular(own, rows, upper=False)
        self._taken = torch.cat([self._taken, taken])
        self._gone[places] = True
        solved = torch.linalg.solve_triangular(own.mT, taken, upper=True)
        if len(self._present) < solved.shape[1]:
            solved = solved[:, self._present]
        return _change(weights, columns, solved)

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a checkpoint needs to go on bit for bit."""
        return {
            "factor": self._factor,
            "taken": self._taken,
            "gone": self._gone,
            "present": self._present,
        }

    @classmethod
    def restored(cls, tensors: dict[str, torch.Tensor], device: torch.device) -> "FactoredInverse":
        """The one that gave `tensors`."""
        found = cls.__new__(cls)
        # LAPACK's order of the factor, so that solves round alike.
        found._factor = tensors["factor"].to(device).mT.contiguous().mT
        found._taken = tensors["taken"].to(device, copy=True)
        found._gone = tensors["gone"].to(device, copy=True)
        found._present = tensors["present"].to(device, copy=True)
        return found


def _change(weights: torch.Tensor, columns: torch.Tensor, solved: torch.Tensor) -> torch.Tensor:
    """-W_S ([H^-1]_SS)^-1 [H^-1]_S,: from the product of the last two, [removed, in]."""
    delta = -weights[:, columns] @ solved
    # Exact where the algebra says so: rounding must leave no trace of a removed column.
    delta[:, columns] = -weights[:, columns]
    return delta
