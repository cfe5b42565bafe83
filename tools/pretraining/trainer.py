"""The training loop: AdamW over float32 weights, clipping, accumulation, a warm-up and a cosine, saliency on the way.

One `Trainer` serves the whole life of a candidate: it trains the source, is told that the model was cut, and goes on
with the same optimiser, the same learning rate curve and the next data.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from tools.pretraining.compute import Compute
from tools.pretraining.corpus import training_batches
from tools.pruning.saliency_meter import SaliencyMeter
from tools.settings import Recipe

Report = Callable[[str, int, int, float], None]
"""Called after each optimiser step with the phase, the steps done, the steps of the phase, and the loss."""


class NotFiniteError(RuntimeError):
    """The loss became NaN or infinite; what was saved before is still good."""


class Trainer:
    """Trains `model` on `blocks` ([blocks, block_length] token ids), step by step.

    The learning rate rises linearly over `recipe.warmup_steps` and falls along a cosine to a tenth at the end of
    `warmup_steps + training_steps`. Batch k is the same for every candidate with the same seed.
    """

    def __init__(
        self, model: PreTrainedModel, blocks: npt.NDArray[np.int32], recipe: Recipe, compute: Compute, seed: int
    ) -> None:
        self.model = model
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay
        )
        self.step = 0
        self.losses: list[float] = []
        self._blocks, self._recipe, self._compute, self._seed = blocks, recipe, compute, seed

    def train(
        self,
        steps: int,
        phase: str,
        report: Report,
        meter: SaliencyMeter | None = None,
        after_step: Callable[[int], None] | None = None,
    ) -> None:
        """Take `steps` optimiser steps; `meter` reads the gradients of every micro-batch before they are clipped.

        `after_step` is called with the steps done; no graph is alive then, so it may cut the model.

        Raises NotFiniteError as soon as a loss is not finite, before the weights see it.
        """
        self.model.train()
        batches = training_batches(self._blocks, self._recipe.batch_size, self._seed, start=self.step)
        for done in range(1, steps + 1):
            loss = self._accumulate(next(batches), meter)
            if not math.isfinite(loss):
                raise NotFiniteError(f"the loss was {loss} at step {self.step} with learning rate {self._rate():.2g}")
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._recipe.gradient_clipping)
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            if meter is not None:
                meter.end_step()
            self.step += 1
            self.losses.append(loss)
            report(phase, done, steps, loss)
            if after_step is not None:
                after_step(done)

    @property
    def tokens(self) -> int:
        """Training tokens seen so far."""
        return self.step * self._recipe.batch_size * int(self._blocks.shape[1])

    def _accumulate(self, batch: npt.NDArray[np.int32], meter: SaliencyMeter | None) -> float:
        """Forward and backward over the micro-batches of one step; the mean loss in nats per token."""
        size = min(self._recipe.micro_batch_size, len(batch))
        pieces = [batch[start : start + size] for start in range(0, len(batch), size)]
        total = 0.0
        for piece in pieces:
            input_ids = torch.from_numpy(np.array(piece)).long().to(self._compute.device)
            share = len(piece) / len(batch)
            with self._compute.autocast():
                loss = self.model(input_ids=input_ids, labels=input_ids, use_cache=False).loss
            (loss * share).backward()
            if meter is not None:
                meter.observe(loss_scale=share)
            total += float(loss.detach()) * share
        return total

    def _rate(self) -> float:
        recipe = self._recipe
        if self.step < recipe.warmup_steps:
            return recipe.learning_rate * (self.step + 1) / recipe.warmup_steps
        done = (self.step - recipe.warmup_steps) / max(1, recipe.training_steps)
        return recipe.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
