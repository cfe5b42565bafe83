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
    def computed_as(self) -> list[object]:
        """What figures of the model hang on beside what was asked of it: its files, and how they are computed."""
        rounding = ["rounded stochastically"] if self.compute.precision == "bfloat16" else []
        return [self.found.digest, self.compute.precision, self.compute.device, *rounding]

    @property
    def parts(self) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        """Model and tokenizer. Raises InputError as `load_evaluated` does."""
        if self._parts is None:
            model, tokenizer = load_evaluated(self.found)
            if self.compute.precision == "bfloat16":
                from tools.rounding import round_weights

                # Products in bfloat16 would round them anyway, to nearest, and lose what a short training gave.
                round_weights(model)
            self.compute.place(model)
            self._parts = model, tokenizer
        return self._parts
