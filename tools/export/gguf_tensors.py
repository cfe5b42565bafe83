"""The tensors of a design under the names, in the order of rows and in the precision that llama.cpp reads."""

from collections.abc import Callable
from typing import Any

import gguf
import numpy as np
import torch

from tools.architecture import Architecture
from tools.errors import InputError
from tools.export.compact import Tensors
from tools.export.gguf_layout import gguf_name
from tools.export.padding import padded_tensor

PRECISIONS = ("f16", "f32", "bf16")

_TORCH = {"f16": torch.float16, "f32": torch.float32, "bf16": torch.bfloat16}
_TYPES = {
    "f16": gguf.GGMLQuantizationType.F16,
    "f32": gguf.GGMLQuantizationType.F32,
    "bf16": gguf.GGMLQuantizationType.BF16,
}

Prepared = dict[str, Callable[[], torch.Tensor]]


def interleaved(tensor: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Rows of a query or key projection, or its bias, from half-split rotary pairs (i, i + D/2) to (2i, 2i + 1).

    The reordering is the same in queries and keys, so their products stay as they are.
    """
    heads = tensor.reshape(-1, 2, head_dim // 2, *tensor.shape[1:])
    return heads.transpose(1, 2).reshape(tensor.shape)


def prepared(tensors: Tensors, architecture: Architecture, written: Architecture, interleave: bool) -> Prepared:
    """For every tensor of the file, by llama.cpp's name, what makes it: one at a time, as a second copy is large."""
    return {
        gguf_name(name): _maker(name, tensor, architecture, written, interleave) for name, tensor in tensors.items()
    }


def write_tensors(writer: gguf.GGUFWriter, makers: Prepared, precision: str) -> None:
    """Write the header that `writer` holds and all tensors; those with one dimension as float32 always.

    Raises OSError where the file cannot be written, InputError where a weight is too large for the precision.
    """
    for name, make in makers.items():
        array, kind = _array(name, make(), precision)
        writer.add_tensor_info(name, array.shape, array.dtype, array.nbytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    # The writer's own way to write an array loses the system's reason where the disk is full.
    file = (writer.fout or [])[0]
    writer.write_padding(file, file.tell())
    for name, make in makers.items():
        array, _ = _array(name, make(), precision)
        file.write(array.data)
        writer.write_padding(file, array.nbytes)


def _maker(
    name: str, tensor: torch.Tensor, architecture: Architecture, written: Architecture, interleave: bool
) -> Callable[[], torch.Tensor]:
    def make() -> torch.Tensor:
        made, parts, head_dim = tensor, name.split("."), architecture.fixed.head_dim
        if parts[1] == "layers":
            index = int(parts[2])
            made = padded_tensor(name, made, architecture.layers[index], written.layers[index], head_dim)
            if interleave and parts[-2] in ("q_proj", "k_proj"):
                made = interleaved(made, head_dim)
        return made

    return make


def _array(name: str, tensor: torch.Tensor, precision: str) -> tuple["np.ndarray[Any, Any]", gguf.GGMLQuantizationType]:
    wanted = precision if tensor.ndim > 1 else "f32"
    converted = tensor.to(device="cpu", dtype=_TORCH[wanted]).contiguous()
    if not bool(torch.isfinite(converted).all()):
        raise InputError(f"{name} holds numbers that {wanted} cannot hold; write the file as f32 or bf16.")
    if wanted == "bf16":
        return converted.view(torch.int16).numpy().view(np.uint16), _TYPES[wanted]
    return converted.numpy(), _TYPES[wanted]
