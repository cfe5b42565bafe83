"""The tensors of a design under the names, in the order of rows and in the precision that llama.cpp reads."""

from collections.abc import Callable, Sequence
from typing import Any

import gguf
import numpy as np
import torch

from tools.architecture import Architecture
from tools.errors import InputError
from tools.export.compact import Tensors
from tools.export.gguf_kernels import quantised
from tools.export.gguf_layout import gguf_name
from tools.export.padding import padded_tensor
from tools.export.quantisation import PredictedTensor
from tools.requests import Progress, ReportProgress
from tools.rounding import in_dtype

_TORCH = {"F16": torch.float16, "F32": torch.float32, "BF16": torch.bfloat16}

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


def write_tensors(
    writer: gguf.GGUFWriter, makers: Prepared, tensors: Sequence[PredictedTensor], report: ReportProgress
) -> None:
    """Write the header that `writer` holds and all `tensors`, each in its own type.

    Raises OSError where the file cannot be written, InputError where a weight is too large for its type.
    """
    for tensor in tensors:
        kind = gguf.GGMLQuantizationType[tensor.written]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        row = tensor.shape[-1] // block * size
        writer.add_tensor_info(tensor.name, (*tensor.shape[:-1], row), np.dtype(np.uint8), tensor.bytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    # The writer's own way to write an array loses the system's reason where the disk is full.
    file = (writer.fout or [])[0]
    writer.write_padding(file, file.tell())
    for done, tensor in enumerate(tensors):
        report(Progress(phase="writing tensors", done=done, total=len(tensors)))
        array = _array(tensor.name, makers[tensor.name](), tensor.written)
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


def _array(name: str, tensor: torch.Tensor, type_name: str) -> "np.ndarray[Any, Any]":
    converted = in_dtype(name, tensor.cpu(), _TORCH.get(type_name, torch.float32)).contiguous()
    refusal = f"{name} holds numbers that {type_name.lower()} cannot hold; write the file as f32 or bf16."
    if not bool(torch.isfinite(converted).all()):
        raise InputError(refusal)
    if type_name == "BF16":
        return converted.view(torch.int16).numpy().view(np.uint16)
    if type_name in _TORCH:
        return converted.numpy()
    try:
        return quantised(converted.numpy(), type_name, threads=torch.get_num_threads())
    except ValueError as error:
        raise InputError(refusal) from error
