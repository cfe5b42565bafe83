"""Weights in bfloat16 that keep what training gave them.

A source from the hub is in bfloat16, so its weights lie exactly on that format's grid, and a short training moves many
by less than half of a step of it. Rounding to nearest takes these back to where they were: no error that averages out,
but a part of the training lost. Stochastic rounding (Gupta et al., "Deep Learning with Limited Numerical
Precision", arXiv 1502.02551, section 3; for bfloat16 Zamirai et al., "Revisiting BFloat16 Training", arXiv 2010.06192)
takes each number up or down with the chances that leave it as it is on average: that keeps the training, and what lies
on the grid stays there. `python -m benchmarks.precision` has the figures.

The random number of the weight in row i and column j is `rows[i] ^ columns[j]`, of two lists of uniform 16-bit numbers.
Any two of these are independent, so errors of two weights are uncorrelated, and those of a product with the weights
have the variance that they have with a number drawn for each weight: to draw them would take most of the time.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

LOST_BITS = 16
"""Of the 23 bits of a float32's fraction bfloat16 keeps the first 7."""


def in_dtype(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`tensor` in `dtype`; float32 becomes bfloat16 by stochastic rounding, whose random numbers `name` seeds.

    All other conversions round to nearest.
    """
    if tensor.dtype != torch.float32 or dtype != torch.bfloat16:
        return tensor.to(dtype)
    return _rounded(name, tensor).to(dtype)


@contextmanager
def rounded_weights(model: nn.Module) -> Iterator[None]:
    """Context in which the weights of `model` are as `round_weights` leaves them; afterwards they are as before."""
    before = [(parameter, parameter.detach().clone()) for parameter in model.parameters()]
    round_weights(model)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, weights in before:
                parameter.copy_(weights)


@torch.no_grad()
def round_weights(model: nn.Module) -> None:
    """Move the float32 weights of `model` onto the grid of bfloat16, in place, as `in_dtype` does.

    Products in bfloat16 then read the weights as they are: a model is measured as its export in bfloat16 would be.
    """
    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.float32:
            parameter.copy_(_rounded(name, parameter))


def line_lengths(tensor: torch.Tensor) -> tuple[int, int]:
    """How many random numbers the rows and the columns of `tensor` take; all dimensions after the first are columns."""
    rows = tensor.shape[0] if tensor.dim() else 1
    return rows, tensor.numel() // max(1, rows)


@torch.no_grad()
def round_into(out: torch.Tensor, tensor: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> None:
    """Write `tensor` into `out` as it is on the grid of bfloat16; both are float32, contiguous, of one shape.

    `rows` and `columns` are of the lengths that `line_lengths` gives, int32 from 0 to 65,535, on the tensor's device.
    """
    # A random fraction of a step is added, then the rest cut off. In place, as memory is what this waits for.
    bits, lines = out.view(torch.int32), (len(rows), len(columns))
    torch.bitwise_xor(rows[:, None], columns[None, :], out=bits.view(lines))
    bits += tensor.view(torch.int32)
    bits &= -1 << LOST_BITS


def _rounded(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` on the grid of bfloat16, still float32; numbers that are not finite stay as they are."""
    tensor = tensor.detach().contiguous()
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    numbers = torch.randint(0, 1 << LOST_BITS, (sum(line_lengths(tensor)),), dtype=torch.int32, generator=generator)
    out = torch.empty_like(tensor)
    round_into(out, tensor, *numbers.to(tensor.device).split(line_lengths(tensor)))
    return torch.where(tensor.isfinite(), out, tensor)
