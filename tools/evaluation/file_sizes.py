"""How large a model's weights are in each format: the files that are there, and what others would be."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.architecture import Architecture
from tools.evaluation.edge_figures import FileSize
from tools.export.quantisation import FLOAT_TYPES, MIXES, predicted_file
from tools.fingerprint import safetensors_header

PREDICTED_GGUF = ("f16", "q8_0", "q4_k_m")

_HF_BYTES = {"float32": 4, "bfloat16": 2}
_SAFETENSORS_NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def hf_sizes(files: Sequence[Path], parameters: int) -> list[FileSize]:
    """The safetensors `files` of a directory as they are, and its `parameters`, padding included, in other formats."""
    found = FileSize(
        container="hf", format=_format_of(files), bytes=sum(file.stat().st_size for file in files), origin="found"
    )
    predicted = [
        FileSize(container="hf", format=name, bytes=size * parameters, origin="predicted")
        for name, size in _HF_BYTES.items()
        if name != found.format
    ]
    return [found, *predicted]


def gguf_sizes(design: Architecture, written: Mapping[str, int]) -> list[FileSize]:
    """The sizes of GGUF files: those `written`, bytes by format, and what the usual ones would have.

    A predicted file has the metadata, tokenizer included, of a written one; without any it has none.
    """
    metadata = next((size - predicted_file(design, name).bytes for name, size in written.items()), 0)
    sizes = []
    for name in dict.fromkeys((*PREDICTED_GGUF, *written)):
        prediction = predicted_file(design, name)
        quantised = MIXES[name].base not in FLOAT_TYPES
        sizes.append(
            FileSize(
                container="gguf",
                format=name,
                bytes=written.get(name, prediction.bytes + metadata),
                origin="written" if name in written else "predicted",
                fallback_tensors=prediction.fallback_tensors / prediction.tensor_count if quantised else None,
                fallback_parameters=prediction.fallback_share if quantised else None,
            )
        )
    return sizes


def _format_of(files: Sequence[Path]) -> str:
    """The format of most bytes."""
    counted: dict[str, int] = {}
    for file in files:
        for entry in safetensors_header(file).values():
            start, end = entry["data_offsets"]
            counted[entry["dtype"]] = counted.get(entry["dtype"], 0) + end - start
    most = max(counted, key=counted.__getitem__)
    return _SAFETENSORS_NAMES.get(most, most.lower())
