"""Gathers what criteria judge by: passes of calibration text through a live model."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from tools.pruning.criteria.contract import Criterion, Statistics
from tools.pruning.input_statistics import InputStatistics

Report = Callable[[str, int, int], None]
"""Called with a phase, what is done of it, and how much that is."""


@dataclass(frozen=True)
class Calibration:
    """Micro-batches of token ids [blocks, block_length] on the model's device, and the precision of the passes."""

    micro_batches: tuple[torch.Tensor, ...]
    autocast: Callable[[], AbstractContextManager[object]]

    @property
    def tokens(self) -> int:
        return sum(batch.numel() for batch in self.micro_batches)


def gather(
    model: PreTrainedModel, criterion: Criterion, calibration: Calibration, statistics: bool, report: Report
) -> Statistics:
    """Pass `calibration` through `model` once: `criterion` observes the gradients of each micro-batch if it needs them.

    Returns the moments of all layer inputs where `statistics` is set, else nothing. Gradients are cleared afterwards.
    """
    # All tokens, however much is known: a single pass costs little, and more text must not mean less evidence.
    longest = max(batch.numel() for batch in calibration.micro_batches)
    recorder = InputStatistics(model, tokens_per_micro_batch=longest) if statistics else None
    ends = [criterion.attach()] if recorder is None else [criterion.attach(), recorder.attach()]
    total = len(calibration.micro_batches)
    try:
        for done, input_ids in enumerate(calibration.micro_batches, start=1):
            if criterion.needs_gradients:
                with torch.enable_grad(), calibration.autocast():
                    loss = model(input_ids=input_ids, labels=input_ids, use_cache=False).loss
                model.zero_grad(set_to_none=True)
                loss.backward()
                criterion.observe()
            elif recorder is not None:
                # The head's large product is left out: nothing is taken from it.
                with torch.no_grad(), calibration.autocast():
                    model.get_submodule("model")(input_ids=input_ids, use_cache=False)
            report("taking evidence", done, total)
    finally:
        for end in ends:
            end()
        model.zero_grad(set_to_none=True)
    return recorder.state() if recorder is not None else {}
