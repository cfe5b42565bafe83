"""Exports a cut model as a directory that stock transformers classes open, without any code of ours."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tools.architecture import Architecture
from tools.export.compact import Tensors, design_tensors, rms_norm_eps, write_tensors
from tools.export.config_file import config_values, write_config
from tools.export.directories import copy_text_files, may_be_replaced, require_apart
from tools.export.padded_shapes import needs_dividing_heads, padded_architecture
from tools.export.padding import padded_tensor
from tools.export.report import ExportReport
from tools.families import tensor_shapes
from tools.quiet import quiet_transformers
from tools.rounding import in_dtype
from tools.staging import staged_directory

__all__ = ["ExportReport", "export_huggingface", "stock_config"]

_CLASS_NAMES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
_LLAMA_ONLY = ("attention_bias", "mlp_bias", "pretraining_tp")


def export_huggingface(
    model: PreTrainedModel,
    architecture: Architecture,
    source_path: Path,
    destination: Path,
    overwrite: bool = False,
    dtype: torch.dtype = torch.float32,
    finish: Callable[[Path, ExportReport], None] | None = None,
) -> ExportReport:
    """Write the live, cut `model` of `architecture` to `destination`, with the tokenizer in `source_path`.

    Equal layers go into the stock class of the model's family, or where Llama's refuses a hidden size that is no
    multiple of the query heads, into MistralForCausalLM without a window, which computes the same. Layers that differ
    are padded with zeros to the widest, which leaves the logits as they are. `bytes` in the report is the size of the
    weights' file. The directory appears whole or not at all; `finish` gets it before, and the report, to add files.
    Raises InputError where the directory exists (unless `overwrite`), is the source itself, holds other things than a
    model, or cannot be written; ValueError where the model is not of that architecture.
    """
    require_apart(destination, source_path)
    written = padded_architecture(architecture)
    tensors = _padded(design_tensors(model, architecture), architecture, written, dtype)
    config = stock_config(model.config.to_dict(), written, rms_norm_eps(model), dtype)
    _check_stock_class(config, written)
    with staged_directory(destination, overwrite, may_replace=may_be_replaced) as staged:
        write_config(staged, config)
        copy_text_files(source_path, staged)
        write_tensors(staged / "model.safetensors", tensors, config["rms_norm_eps"])
        report = ExportReport(
            path=destination,
            class_name=config["architectures"][0],
            parameters=architecture.parameters,
            file_parameters=written.parameters,
            padded=written != architecture,
            bytes=(staged / "model.safetensors").stat().st_size,
            dtype=config["dtype"],
        )
        if finish is not None:
            finish(staged, report)
    return report


def stock_config(base: dict[str, Any], architecture: Architecture, eps: float, dtype: torch.dtype) -> dict[str, Any]:
    """The config.json of the stock class for a homogeneous `architecture`, on the ground of the live model's config."""
    layer = architecture.layers[0]
    family = architecture.fixed.model_type
    values = config_values(base, architecture, eps, dtype)
    undivided = architecture.hidden_size % layer.num_attention_heads != 0
    if family == "llama" and undivided and not needs_dividing_heads(architecture):
        family = "mistral"
        values = {key: value for key, value in values.items() if key not in _LLAMA_ONLY} | {"sliding_window": None}
    values |= layer.model_dump() | {"model_type": family}
    config: PreTrainedConfig = CONFIG_MAPPING[family].from_dict(values)
    written = config.to_diff_dict()
    # Values that equal a class's default are left out by transformers; these are stated for other software's sake.
    stated = config_values({}, architecture, eps, dtype) | layer.model_dump()
    written |= stated | {"model_type": family, "architectures": [_CLASS_NAMES[family]]}
    if family == "mistral":
        written["sliding_window"] = values.get("sliding_window")
    return written


def _padded(tensors: Tensors, architecture: Architecture, written: Architecture, dtype: torch.dtype) -> Tensors:
    padded: Tensors = {}
    for name, weights in tensors.items():
        parts = name.split(".")
        # Before it is padded: the same numbers then come out as of a compact export.
        tensor = in_dtype(name, weights, dtype)
        if parts[1] == "layers":
            index = int(parts[2])
            layers = architecture.layers[index], written.layers[index]
            tensor = padded_tensor(name, tensor, *layers, architecture.fixed.head_dim)
        padded[name] = tensor
    return padded


def _check_stock_class(config: dict[str, Any], written: Architecture) -> None:
    """Build the stock class without memory and compare its tensors with those that will be written."""
    built = CONFIG_MAPPING[config["model_type"]].from_dict(config)
    with quiet_transformers(), torch.device("meta"):
        stock = AutoModelForCausalLM.from_config(built)
    shapes = {name: tuple(parameter.shape) for name, parameter in stock.named_parameters()}
    if shapes != tensor_shapes(written):
        differing = sorted(set(shapes.items()) ^ set(tensor_shapes(written).items()))
        raise ValueError(f"{config['architectures'][0]} has other tensors than the export: {differing[:3]}")
