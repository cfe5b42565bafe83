"""What an export wrote, and what its user should know of it, in sentences."""

from dataclasses import dataclass
from pathlib import Path

from tools.export.quantisation import PredictedFile


@dataclass(frozen=True)
class ExportReport:
    """What was written. `parameters` counts the design's, `file_parameters` with the zeros of padding, tied once.

    `path` is the directory or the single file, `class_name` what opens it, `bytes` the size of the weights' file.
    `prediction` says of a GGUF file which types its tensors have.
    """

    path: Path
    class_name: str
    parameters: int
    file_parameters: int
    padded: bool
    bytes: int
    weights_file: str = "model.safetensors"
    dtype: str = "float32"
    remote_code: bool = False
    prediction: PredictedFile | None = None
    remarks: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """Sentences on what is not as one might expect: padding, fallen back tensors, code that comes along."""
        notes = list(self.remarks)
        if self.padded:
            notes.append(
                f"Layers differ in their widths: padded with zeros to the widest, {self.file_parameters:,} parameters "
                f"in the file for the design's {self.parameters:,}; the logits are the same."
            )
        if self.prediction is not None and self.prediction.fallbacks:
            notes.append(fallback_note(self.prediction))
        if self.remote_code:
            notes.append(
                "This directory holds Python code (modeling_penjing.py), which runs when the model is opened with "
                "trust_remote_code=True; without it only software that knows this code opens the model."
            )
        return notes


def fallback_note(prediction: PredictedFile) -> str:
    """One sentence: which tensors got other types than the mix has for them, and what that costs."""
    kinds = ", ".join(
        f"{len(fallback.tensors)} from {fallback.wanted} to {fallback.written}" for fallback in prediction.fallbacks
    )
    return (
        f"{prediction.fallback_tensors} of {prediction.tensor_count} tensors ({prediction.fallback_share:.0%} of the "
        f"parameters) fell back to other types, because their rows do not fit {prediction.mix}: {kinds}. "
        f"The file is {prediction.growth:.1%} larger for it ({prediction.bits_per_weight:.2f} bits per weight)."
    )
