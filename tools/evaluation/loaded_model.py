"""Loads the evaluated model when its figures are not all known yet, once, and puts it where it computes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.evaluation.evaluated_model import EvaluatedModel, load_evaluated

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tools.pretraining.compute import Compute


@dataclass
class LoadedModel:
    """Weights and tokenizer of `found` on the device of `compute`, from the first time that they are asked for."""

    found: EvaluatedModel
    compute: "Compute"
    _parts: "tuple[PreTrainedModel, PreTrainedTokenizerBase] | None" = None

    @property
    def parts(self) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        """Model and tokenizer. Raises InputError as `load_evaluated` does."""
        if self._parts is None:
            self._parts = load_evaluated(self.found)
            self.compute.place(self._parts[0])
        return self._parts
