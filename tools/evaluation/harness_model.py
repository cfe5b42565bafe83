"""A model in lm-eval's hands: its own `HFLM`, with a batch size that fits the memory, and with progress.

Import this only where lm-eval is known to be installed (`tools.evaluation.harness.require_harness`).
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tools.evaluation.batch_size import fitting_batch_size
from tools.evaluation.evaluated_model import vocabulary_of
from tools.evaluation.harness import quiet_harness
from tools.failures import failure_of
from tools.pretraining.compute import Compute


class HarnessModel(HFLM):  # type: ignore[misc]
    """`on_answer` is called after each scored request; `tokens` counts the scored tokens, and `truncated` the requests
    that were longer than `max_length` and lost their beginning.

    Matrix products run in the precision of `compute`, log-probabilities in float32. Without `batch_size` as many
    sequences go at once as fit the memory; where they do not fit after all, half as many, and so on.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        compute: Compute,
        max_length: int,
        batch_size: int | None = None,
        on_answer: Callable[[], None] = lambda: None,
    ) -> None:
        with quiet_harness():
            super().__init__(
                pretrained=model,
                backend="causal",
                tokenizer=tokenizer,
                max_length=max_length,
                batch_size=batch_size or 1,
                softmax_dtype=torch.float32,
                mixed_precision_dtype=torch.bfloat16 if compute.precision == "bfloat16" else None,
            )
        self.tokens = self.truncated = 0
        self._asked = batch_size
        self._vocabulary = vocabulary_of(model)
        self.set_cache_hook(_Answers(on_answer))

    def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
        """lm-eval's own, without its bar."""
        return super().loglikelihood(requests, disable_tqdm=True)

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = True, override_bs: int | None = None) -> Any:
        longest = max(len(context) + len(continuation) for _, context, continuation in requests)
        longest = min(longest, self.max_length)
        self.batch_size_per_gpu = self._asked or fitting_batch_size(longest, self._vocabulary, self.device)
        while True:
            try:
                answers = super()._loglikelihood_tokens(requests, disable_tqdm=True, override_bs=override_bs)
            except (RuntimeError, MemoryError) as error:
                failure = failure_of(error)
                if failure is None or failure.kind != "out_of_memory" or self.batch_size_per_gpu == 1:
                    raise
                # The longest go first, so little was done yet.
                self.batch_size_per_gpu //= 2
            else:
                self.tokens += sum(len(continuation) for _, _, continuation in requests)
                self.truncated += sum(len(context) + len(rest) > self.max_length + 1 for _, context, rest in requests)
                return answers


class _Answers:
    """Stands where lm-eval keeps its cache of answers, and counts them."""

    dbdict = None

    def __init__(self, on_answer: Callable[[], None]) -> None:
        self._on_answer = on_answer

    def add_partial(self, attr: str, req: Iterable[Any], res: Any) -> None:
        """Take one answer in."""
        self._on_answer()
