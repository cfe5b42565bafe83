"""What a model costs on this machine: the time to read a prompt and to write each token."""

import time
from dataclasses import dataclass
from statistics import median

import torch
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Latency:
    """Milliseconds at batch size 1, with the number of threads of torch that they were taken with.

    `median_ms`, `minimum_ms` and `maximum_ms` are of all tokens written in all repeats; `prefill_ms` is the median time
    to read the prompt.
    """

    median_ms: float
    minimum_ms: float
    maximum_ms: float
    prefill_ms: float
    threads: int


@torch.no_grad()
def decode_latency(model: PreTrainedModel, prompt_length: int = 64, new_tokens: int = 16, repeats: int = 3) -> Latency:
    """Time greedy decoding with the key/value cache, in the model's own precision, after one repeat to warm up."""
    was_training = model.training
    device = next(model.parameters()).device
    vocabulary = model.get_input_embeddings().get_parameter("weight").shape[0]
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(vocabulary, (1, prompt_length), generator=generator).to(device)
    model.eval()
    try:
        runs = [timed_run(model, prompt, new_tokens) for _ in range(repeats + 1)][1:]
    finally:
        model.train(was_training)
    steps = [step for _, run in runs for step in run]
    return Latency(
        median_ms=median(steps),
        minimum_ms=min(steps),
        maximum_ms=max(steps),
        prefill_ms=median(prefill for prefill, _ in runs),
        threads=torch.get_num_threads(),
    )


def timed_run(model: PreTrainedModel, prompt: torch.Tensor, new_tokens: int) -> tuple[float, list[float]]:
    """Milliseconds to read `prompt` [1, length], and of each of `new_tokens` decoding steps after it."""
    cache, tokens = None, prompt
    times: list[float] = []
    for _ in range(new_tokens + 1):
        started = time.perf_counter()
        output = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        # Reading the chosen token waits for the device, so that its time is counted too.
        tokens = torch.tensor([[int(output.logits[0, -1].argmax())]], device=prompt.device)
        times.append((time.perf_counter() - started) * 1000)
        cache = output.past_key_values
    return times[0], times[1:]
