"""Distillation from the source: the divergence of the student's predictions from the teacher's, beside the loss.

    objective = (1 - w) CE + w T^2 KL(teacher || student)      both sides softened by the temperature T

(Hinton et al., arXiv 1503.02531; T^2 keeps the gradients' scale.) The logits are never whole in memory: at a vocabulary
of 49,152 they need 200 kB a token and copy. The head is applied to some rows at a time, and again in the backward pass.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

# Logits of one chunk: 128 MiB in float32.
_CHUNK_ELEMENTS = 2**25


@dataclass(frozen=True)
class DistillationLoss:
    """Means over the predicted tokens, in nats: what is minimised, and its two parts (without gradient)."""

    objective: torch.Tensor
    cross_entropy: torch.Tensor
    divergence: torch.Tensor


def freeze(teacher: PreTrainedModel) -> PreTrainedModel:
    """`teacher` itself, in evaluation mode and without gradients from now on."""
    teacher.eval()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    return teacher


def distillation_loss(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    input_ids: torch.Tensor,
    weight: float,
    temperature: float,
    chunk_elements: int = _CHUNK_ELEMENTS,
) -> DistillationLoss:
    """The loss of `student` on `input_ids` [batch, tokens], of which tokens 2 to n are predicted from those before.

    `weight` is that of the divergence, from 0 to 1. Call it inside autocast for lower precision; log-probabilities are
    at least float32. Both models must share the vocabulary. `chunk_elements` bounds the logits made at a time.
    """
    targets = input_ids[:, 1:].flatten()
    states = _last_states(student, input_ids)
    with torch.no_grad():
        teacher_states = _last_states(teacher, input_ids)
    head, teacher_head = student.get_output_embeddings(), teacher.get_output_embeddings()
    rows = max(1, chunk_elements // cast(torch.Tensor, head.weight).shape[0])
    pieces = zip(states.split(rows), teacher_states.split(rows), targets.split(rows), strict=True)
    sums = [
        torch.stack(
            checkpoint(
                _summed_losses, head, teacher_head, *piece, temperature, use_reentrant=False, preserve_rng_state=False
            )
        )
        for piece in pieces
    ]
    cross_entropy, divergence = torch.stack(sums).sum(dim=0) / targets.numel()
    objective = (1 - weight) * cross_entropy + weight * temperature**2 * divergence
    return DistillationLoss(objective, cross_entropy.detach(), divergence.detach())


def _last_states(model: PreTrainedModel, input_ids: torch.Tensor) -> torch.Tensor:
    """What the head reads, [predicted tokens, hidden_size]; the last token of each row predicts nothing."""
    states = cast(torch.Tensor, model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state)
    return states[:, :-1].flatten(0, 1)


def _summed_losses(
    head: nn.Module,
    teacher_head: nn.Module,
    states: torch.Tensor,
    teacher_states: torch.Tensor,
    targets: torch.Tensor,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy and divergence of one chunk, summed over its rows."""
    logits = _at_least_float32(head(states))
    cross_entropy = F.cross_entropy(logits, targets, reduction="sum")
    with torch.no_grad():
        teacher_log_probabilities = F.log_softmax(_at_least_float32(teacher_head(teacher_states)) / temperature, dim=-1)
    log_probabilities = F.log_softmax(logits / temperature, dim=-1)
    divergence = F.kl_div(log_probabilities, teacher_log_probabilities, reduction="sum", log_target=True)
    return cross_entropy, divergence


def _at_least_float32(logits: torch.Tensor) -> torch.Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
