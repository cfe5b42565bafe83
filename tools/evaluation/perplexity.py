"""Validation loss: the mean cross-entropy of a language model on packed blocks, of all and of each."""

import contextlib
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

# Logits of a whole batch over a large vocabulary would need several copies of 4 bytes each in memory at once.
_ROWS = 512


def validation_loss(
    model: PreTrainedModel,
    blocks: npt.NDArray[np.int32],
    batch_size: int = 4,
    precision: Literal["bfloat16", "float32"] = "float32",
) -> float:
    """Mean cross-entropy in nats per predicted token over `blocks`: the mean of what `block_losses` gives.

    It is not finite where the model's numbers are not. Raises ValueError for blocks that hold no token to predict.
    """
    return float(block_losses(model, blocks, batch_size, precision).mean())


@torch.no_grad()
def block_losses(
    model: PreTrainedModel,
    blocks: npt.NDArray[np.int32],
    batch_size: int = 4,
    precision: Literal["bfloat16", "float32"] = "float32",
) -> npt.NDArray[np.float64]:
    """Mean cross-entropy in nats per predicted token of each of `blocks` [blocks, block_length].

    Every block stands alone: its tokens 2 to n are predicted from those before them in the block. Matrix products run
    in `precision`, log-probabilities in float32, and their sum in float64. Bfloat16 (by autocast) rounds weights to
    nearest, which takes a short training of a source in bfloat16 back in part (`tools.rounding`): what decides is
    measured in float32. The model's training or evaluation mode is as before afterwards. Raises ValueError for blocks
    that hold no token to predict.
    """
    if blocks.shape[0] == 0 or blocks.shape[1] < 2:
        raise ValueError(f"blocks of shape {blocks.shape} hold no token to predict")
    was_training = model.training
    device = next(model.parameters()).device
    autocast = torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else contextlib.nullcontext()
    found = []
    model.eval()
    try:
        for start in range(0, len(blocks), batch_size):
            tokens = torch.from_numpy(blocks[start : start + batch_size].astype(np.int64)).to(device)
            with autocast:
                logits = model(input_ids=tokens, use_cache=False).logits
            losses = _cross_entropies(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
            found.append(losses.view(len(tokens), -1).mean(1).cpu().numpy())
    finally:
        model.train(was_training)
    return np.concatenate(found)


def _cross_entropies(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Those of all rows, computed in float32, as float64; logits [rows, vocabulary], targets [rows]."""
    pieces = zip(logits.split(_ROWS), targets.split(_ROWS), strict=True)
    return torch.cat([F.cross_entropy(piece.float(), target, reduction="none").double() for piece, target in pieces])
