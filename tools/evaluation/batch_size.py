"""How many sequences go through a model at once: as many as memory and usefulness allow."""

import psutil
import torch

# Logits of a batch exist twice, once as the model gives them and once as float32 log-probabilities.
_BYTES_PER_LOGIT = 8
_MOST_ROWS = 64
# Beyond this many tokens a CPU gains nothing from a larger batch, and progress shows less often.
_CPU_TOKENS = 1024
_CPU_BYTES = 2 * 2**30


def fitting_batch_size(longest: int, vocabulary: int, device: torch.device) -> int:
    """Sequences of `longest` tokens whose logits over `vocabulary` fit the memory that is free on `device` now."""
    row = longest * vocabulary * _BYTES_PER_LOGIT
    if device.type == "cuda":
        return max(1, min(_MOST_ROWS, torch.cuda.mem_get_info(device)[0] // 2 // row))
    free = min(_CPU_BYTES, int(psutil.virtual_memory().available) // 4)
    return max(1, min(_MOST_ROWS, free // row, _CPU_TOKENS // longest))
