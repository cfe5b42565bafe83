"""Saliency from the gates of tokens and of whole sequences: the geometric mean of two diagonal Fisher informations.

Both are means for each token of the text, in the same unit, and equal where the gates g_t of a sequence's T tokens do
not hang together:

    of tokens       1/2 mean_t g_t^2
    of sequences    1/2 mean_s (sum_t g_t)^2 / T        the Fisher information with sequences as samples

Tokens give hundreds of times more samples, but each is judged alone: they miss groups that push all tokens of a text
the same way, little each. Sequences see those, and are few and noisy. On text of another kind than was trained on, the
mean of both keeps more than either (`python -m benchmarks.pruning_quality`).
"""

from typing import ClassVar

import numpy as np
import torch

from tools.pruning.saliency import Array, Saliency
from tools.pruning.token_saliency import TokenSaliencyMeter

_SEQUENCE = "sequence."


class TokenSequenceSaliencyMeter(TokenSaliencyMeter):
    """As `TokenSaliencyMeter`; of a micro-batch that is not read whole, whole sequences are read, one at least."""

    _samples: ClassVar[tuple[str, ...]] = ("", _SEQUENCE)
    _length = 0

    def saliency(self) -> Saliency:
        """The geometric mean of both means over all that was seen. Raises ValueError before the first."""
        means = self._means()
        tokens, sequences = means[""], means[_SEQUENCE]

        def mean(one: Array, other: Array) -> Array:
            # Roots first: products of two tiny values would vanish in float32.
            return np.sqrt(one) * np.sqrt(other)

        def both(one: tuple[Array, ...], other: tuple[Array, ...]) -> tuple[Array, ...]:
            return tuple(mean(a, b) for a, b in zip(one, other, strict=True))

        return Saliency(
            kv_group=both(tokens.kv_group, sequences.kv_group),
            query_head=both(tokens.query_head, sequences.query_head),
            ffn=both(tokens.ffn, sequences.ffn),
            stem=mean(tokens.stem, sequences.stem),
        )

    def _some(self, values_bti: torch.Tensor, stride: int) -> torch.Tensor:
        self._length = values_bti.shape[-2]
        return values_bti[::stride].flatten(0, -2)

    def _add(self, name: str, gates: torch.Tensor) -> None:
        of_sequences = gates.view(-1, self._length, gates.shape[1]).sum(dim=1) / self._length**0.5
        super()._add(_SEQUENCE + name, of_sequences)
        super()._add(name, gates)
