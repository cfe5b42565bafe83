"""The training loop: AdamW over float32 weights, clipping, accumulation, and whoever reads gradients on the way.

One `Trainer` serves the whole life of a candidate: it trains the source, is told that the model was cut, and goes on
with the same optimiser, the same learning rate curve and the next data.

Under torchrun each rank takes its own rows of the same global batch, and gradients are summed over the ranks after the
last micro-batch, before clipping: one rank and several take the same steps. The sum is made here and not by
DistributedDataParallel, which would mix the ranks' gradients during the backward pass, before the saliency of each
micro-batch is read, and would have to be wrapped anew after each cut.
"""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from tools.errors import InputError
from tools.pretraining.compute import Compute
from tools.pretraining.corpus import training_batches
from tools.pretraining.distillation import distillation_loss
from tools.pretraining.learning_rate import learning_rate
from tools.pretraining.step_rounding import StepRounding
from tools.pretraining.training_log import StepFigures, model_flops_utilisation, peak_flops
from tools.ranks import rank, sum_over_ranks, world_size
from tools.recomputation import backward_pass
from tools.settings import Recipe

Report = Callable[[str, int, int, float], None]
"""Called after each optimiser step with the phase, the steps done, the steps of the phase, and the loss."""


class NotFiniteError(RuntimeError):
    """The loss or the gradient became NaN or infinite; what was saved before is still good."""


class GradientReader(Protocol):
    """Reads `.grad` after each backward pass, as SaliencyMeter does."""

    def observe(self, loss_scale: float = 1.0) -> None:
        """The loss of this micro-batch was multiplied by `loss_scale`; gradients of one step add up."""

    def end_step(self) -> None:
        """Gradients were cleared."""


class Trainer:
    """Trains `model` on `blocks` ([blocks, block_length] token ids), step by step.

    Batch k is the same for every candidate with the same seed, on any number of ranks. `teacher` is the frozen source
    that `recipe.distillation` asks for, on the same device; losses are cross-entropies all the same, so that they can
    be compared. `log` gets the figures of every step. Raises InputError where the ranks cannot share a batch evenly.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        blocks: npt.NDArray[np.int32],
        recipe: Recipe,
        compute: Compute,
        seed: int,
        *,
        teacher: PreTrainedModel | None = None,
        log: Callable[[StepFigures], None] | None = None,
    ) -> None:
        if recipe.batch_size % world_size():
            raise InputError(
                f"A batch of {recipe.batch_size} blocks cannot be shared evenly by {world_size()} ranks: "
                f"set recipe.batch_size to a multiple of {world_size()}."
            )
        if recipe.distillation > 0 and teacher is None:
            raise ValueError("recipe.distillation is above 0, but there is no teacher")
        self.model = model
        # Fused: one pass over weights and moments, where the default goes over them a dozen times on a CPU.
        self.optimizer = torch.optim.AdamW(
            model.parameters(), recipe.learning_rate, (0.9, 0.95), weight_decay=recipe.weight_decay, fused=True
        )
        self.step = 0
        self.losses: list[float] = []
        self._blocks, self._recipe, self._compute, self._seed = blocks, recipe, compute, seed
        # Without a weight in the loss the teacher need not be run.
        self._teacher = teacher if recipe.distillation > 0 else None
        self._log, self._peak_flops = log, peak_flops(compute)
        self._rounding = StepRounding(model, seed) if compute.precision == "bfloat16" else None
        if recipe.activation_checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
            # Its hook on the embedding serves adapters on frozen models; here the embedding is trained.
            model.disable_input_require_grads()

    def train(
        self,
        steps: int,
        phase: str,
        report: Report,
        meter: GradientReader | None = None,
        after_step: Callable[[int], None] | None = None,
    ) -> None:
        """Take `steps` optimiser steps; `meter` reads the gradients of every micro-batch before they are clipped.

        `after_step` is called with the steps done; no graph is alive then, so it may cut the model.

        Raises NotFiniteError as soon as a loss or gradient norm is not finite, on all ranks, before the weights see it.
        """
        self.model.train()
        batches = training_batches(self._blocks, self._recipe.batch_size, self._seed, start=self.step)
        for done in range(1, steps + 1):
            started = time.perf_counter()
            loss, objective, gradient_norm = self._gradients(next(batches), self.step, meter)
            rate = learning_rate(self.step, self._recipe)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            if meter is not None:
                meter.end_step()
            self.step += 1
            self.losses.append(loss)
            if self._log is not None:
                self._log(self._figures(loss, objective, rate, gradient_norm, time.perf_counter() - started))
            report(phase, done, steps, loss)
            if after_step is not None:
                after_step(done)

    def look(self, steps: int, phase: str, report: Report, meter: GradientReader) -> None:
        """Let `meter` read the gradients of the next `steps` batches; no weight changes, and training begins with them.

        Raises NotFiniteError as `train` does.
        """
        self.model.train()
        batches = training_batches(self._blocks, self._recipe.batch_size, self._seed, start=self.step)
        for done in range(1, steps + 1):
            loss, _, _ = self._gradients(next(batches), self.step + done - 1, meter)
            self.optimizer.zero_grad(set_to_none=True)
            meter.end_step()
            report(phase, done, steps, loss)

    @property
    def tokens(self) -> int:
        """Training tokens seen so far, by all ranks."""
        return self.step * self.tokens_per_step

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimiser step, of all ranks."""
        return self._recipe.batch_size * int(self._blocks.shape[1])

    def _gradients(
        self, batch: npt.NDArray[np.int32], number: int, meter: GradientReader | None
    ) -> tuple[float, float, float]:
        """Leave the clipped gradient of the mean over batch `number` in the parameters.

        Returns the cross-entropy and the objective in nats per token, and the norm of the gradient before clipping.
        """
        with nullcontext() if self._rounding is None else self._rounding.at(number):
            totals = self._accumulate(batch, meter)
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        # The losses go along: what is not finite on one rank is so on all, and they stop together.
        sum_over_ranks([*gradients, totals])
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._recipe.gradient_clipping)
        loss, objective = totals.tolist()
        gradient_norm = float(norm)
        for name, value in (("loss", loss), ("objective", objective), ("gradient norm", gradient_norm)):
            if not math.isfinite(value):
                rate = learning_rate(self.step, self._recipe)
                raise NotFiniteError(f"the {name} was {value} at step {self.step} with learning rate {rate:.2g}")
        return loss, objective, gradient_norm

    def _accumulate(self, batch: npt.NDArray[np.int32], meter: GradientReader | None) -> torch.Tensor:
        """Forward and backward over this rank's micro-batches; its share of the mean losses, float64 [2]."""
        own = len(batch) // world_size()
        rows = batch[rank() * own : (rank() + 1) * own]
        size = min(self._recipe.micro_batch_size, own)
        totals = torch.zeros(2, dtype=torch.float64, device=self._compute.device)
        for start in range(0, own, size):
            piece = rows[start : start + size]
            share = len(piece) / len(batch)
            loss, objective = self._losses(torch.from_numpy(np.array(piece)).long().to(self._compute.device))
            with backward_pass():
                (objective * share).backward()
            if meter is not None:
                meter.observe(loss_scale=share)
            totals += torch.stack([loss.detach(), objective.detach()]).double() * share
        return totals

    def _losses(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The cross-entropy and what is minimised, in nats per token."""
        recipe = self._recipe
        with self._compute.autocast():
            if self._teacher is None:
                loss = self.model(input_ids=input_ids, labels=input_ids, use_cache=False).loss
                return loss, loss
            distilled = distillation_loss(
                self.model, self._teacher, input_ids, recipe.distillation, recipe.distillation_temperature
            )
            return distilled.cross_entropy, distilled.objective

    def _figures(self, loss: float, objective: float, rate: float, gradient_norm: float, seconds: float) -> StepFigures:
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        speed = self._recipe.batch_size * int(self._blocks.shape[1]) / seconds
        return StepFigures(
            step=self.step,
            tokens=self.tokens,
            loss=loss,
            objective=None if self._teacher is None else objective,
            learning_rate=rate,
            gradient_norm=gradient_norm,
            seconds=seconds,
            tokens_per_second=speed,
            parameters=parameters,
            model_flops_utilisation=model_flops_utilisation(parameters, speed, self._peak_flops),
        )
