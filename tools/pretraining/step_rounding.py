"""What products in bfloat16 read of float32 weights while a step is taken: rounded anew, stochastically, for each step.

Autocast rounds weights to nearest, so of what a training adds to a weight it sees nothing before that is half a step of
bfloat16's grid: gradients stay those of the source, and steps go too far in their direction. A short training of small
steps loses a part of its gain with that (`tools/rounding.py` says more).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from tools.rounding import LOST_BITS, line_lengths, round_into


class StepRounding:
    """Rounds the weights and biases of the linear layers of `model`; others are not multiplied in bfloat16.

    Under a tied embedding the lookup reads rounded weights too. Takes 4 bytes for each weight.
    """

    def __init__(self, model: nn.Module, seed: int) -> None:
        self._model, self._seed = model, seed
        self._rounded: list[torch.Tensor] = []

    @contextmanager
    def at(self, step: int) -> Iterator[None]:
        """Context of the forward and backward passes of `step`, which reads the same rounded weights throughout.

        Gradients go to the Parameters as ever; their data is what it was after it, and only then may be changed.
        Numbers are drawn from the seed and `step` alone: the same on all ranks, and when training is gone on with.
        """
        weights = self._weights()
        exact = [weight.data for weight in weights]
        self._round(exact, step)
        try:
            for weight, rounded in zip(weights, self._rounded, strict=True):
                weight.data = rounded
            yield
        finally:
            for weight, data in zip(weights, exact, strict=True):
                weight.data = data

    def _weights(self) -> list[nn.Parameter]:
        """Each once, whatever ties it."""
        layers = (module for module in self._model.modules() if isinstance(module, nn.Linear))
        found = {id(weight): weight for layer in layers for weight in layer.parameters(recurse=False)}
        return [weight for weight in found.values() if weight.dtype == torch.float32]

    def _round(self, exact: list[torch.Tensor], step: int) -> None:
        if [data.shape for data in exact] != [data.shape for data in self._rounded]:
            # After a cut, or at first.
            self._rounded = [torch.empty_like(data, memory_format=torch.contiguous_format) for data in exact]
        lengths = [length for data in exact for length in line_lengths(data)]
        drawn = np.random.default_rng([self._seed, step]).integers(0, 1 << LOST_BITS, sum(lengths), dtype=np.int32)
        lines = torch.from_numpy(drawn).to(exact[0].device).split(lengths) if exact else ()
        for data, out, rows, columns in zip(exact, self._rounded, lines[::2], lines[1::2], strict=True):
            round_into(out, data.contiguous(), rows, columns)
