"""Weights in bfloat16 that keep what training gave them.

A source from the hub is in bfloat16, so its weights lie exactly on that format's grid, and a short training moves many
by less than half of a step of it. Rounding to nearest takes these back to where they were: no error that averages out,
but a part of the training lost. Stochastic rounding (Gupta et al., "Deep Learning with Limited Numerical
Precision", arXiv 1502.02551, section 3; for bfloat16 Zamirai et al., "Revisiting BFloat16 Training", arXiv 2010.06192)
takes each number up or down with the chances that leave it as it is on average: that keeps the training, and what lies
on the grid stays there. `python -m benchmarks.precision` has the figures.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_LOST_BITS = 16
"""Of the 23 bits of a float32's fraction bfloat16 keeps the first 7."""


def in_dtype(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`tensor` in `dtype`; float32 becomes bfloat16 by stochastic rounding, whose random numbers `name` seeds.

    All other conversions round to nearest.
    """
    if tensor.dtype != torch.float32 or dtype != torch.bfloat16:
        return tensor.to(dtype)
    return _stochastic(name, tensor).to(dtype)


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
            parameter.copy_(_stochastic(name, parameter))


def _stochastic(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` on the grid of bfloat16, still float32: a random fraction of a step is added, then the rest cut off."""
    bits = tensor.detach().contiguous().view(torch.int32)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    drawn = torch.randint(0, 1 << _LOST_BITS, bits.shape, dtype=torch.int32, generator=generator)
    # Of numbers that are not finite these bits tell the kinds apart, so they stay as they are.
    finite = torch.isfinite(tensor)
    moved = torch.where(finite, bits + drawn.to(bits.device), bits)
    return ((moved >> _LOST_BITS) << _LOST_BITS).view(torch.float32)
