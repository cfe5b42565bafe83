"""Validation loss: the mean cross-entropy of a language model on packed blocks."""

import contextlib
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

# Logits of a whole batch over a large vocabulary would need several copies of 4 bytes each in memory at once.
_ROWS = 512


@torch.no_grad()
def validation_loss(
    model: PreTrainedModel,
    blocks: npt.NDArray[np.int32],
    batch_size: int = 4,
    precision: Literal["bfloat16", "float32"] = "float32",
) -> float:
    """Mean cross-entropy in nats per predicted token over `blocks` [blocks, block_length].

    Every block stands alone: its tokens 2 to n are predicted from those before them in the block. Matrix products run
    in `precision` (bfloat16 by autocast), log-probabilities in float32, and their sum in float64. The model's training
    or evaluation mode is as before afterwards; the result is not finite where the model's numbers are not.
    """
    if blocks.shape[0] == 0 or blocks.shape[1] < 2:
        raise ValueError(f"blocks of shape {blocks.shape} hold no token to predict")
    was_training = model.training
    device = next(model.parameters()).device
    autocast = torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else contextlib.nullcontext()
    total = 0.0
    model.eval()
    try:
        for start in range(0, len(blocks), batch_size):
            tokens = torch.from_numpy(blocks[start : start + batch_size].astype(np.int64)).to(device)
            with autocast:
                logits = model(input_ids=tokens, use_cache=False).logits
            total += _summed_cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    finally:
        model.train(was_training)
    return total / (int(blocks.shape[0]) * (int(blocks.shape[1]) - 1))


def _summed_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """The float64 sum over rows of float32 cross-entropies; logits [rows, vocabulary], targets [rows]."""
    pieces = zip(logits.split(_ROWS), targets.split(_ROWS), strict=True)
    losses = [F.cross_entropy(piece.float(), target, reduction="none").double().sum() for piece, target in pieces]
    return float(torch.stack(losses).sum())
