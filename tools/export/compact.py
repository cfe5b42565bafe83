"""Penjing's own compact form of a cut model: its tensors as they are, and its architecture as JSON."""

import contextlib
import errno
import json
import os
import re
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from tools.architecture import Architecture, LayerShape
from tools.errors import InputError
from tools.export.compact_config import plain_config
from tools.families import tensor_shapes
from tools.quiet import quiet_transformers
from tools.staging import staged_directory

ARCHITECTURE_FILE = "architecture.json"
WEIGHTS_FILE = "model.safetensors"

Tensors = dict[str, torch.Tensor]


def save_compact(model: PreTrainedModel, architecture: Architecture, directory: Path) -> None:
    """Write the live, cut `model` to `directory`: model.safetensors (tied weights once) and architecture.json.

    An earlier compact model in the directory is replaced. Raises InputError where the directory cannot be written, and
    ValueError where the model is not of that architecture.
    """
    tensors = design_tensors(model, architecture)
    with staged_directory(directory, overwrite=True, may_replace=_is_compact) as staged:
        (staged / ARCHITECTURE_FILE).write_text(architecture.model_dump_json(indent=1) + "\n", encoding="utf-8")
        write_tensors(staged / WEIGHTS_FILE, tensors, rms_norm_eps(model))


def load_compact(source_path: Path, directory: Path) -> PreTrainedModel:
    """The live model that `save_compact` wrote, in evaluation mode, cut from the model family in `source_path`.

    Raises InputError where the files are missing or damaged.
    """
    try:
        architecture = Architecture.model_validate_json((directory / ARCHITECTURE_FILE).read_bytes())
        tensors = load_file(directory / WEIGHTS_FILE)
        with safe_open(directory / WEIGHTS_FILE, framework="pt") as file:
            eps = float((file.metadata() or {})["rms_norm_eps"])
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"There is no whole compact model in {directory}; evaluate the design again.") from error
    config = _config_of(source_path)
    config.rms_norm_eps = eps
    return model_from_tensors(config, architecture, tensors)


def model_from_tensors(config: PreTrainedConfig, architecture: Architecture, tensors: Tensors) -> PreTrainedModel:
    """A live model of `architecture`, layers of different shapes included, that holds `tensors` themselves.

    `config` is the source's; it says all that an architecture does not (activation, rotary positions, epsilon).
    """
    _check_shapes({name: tuple(tensor.shape) for name, tensor in tensors.items()}, architecture)
    with quiet_transformers(), torch.device("meta"):
        model = cast(PreTrainedModel, AutoModelForCausalLM.from_config(config))
    # Its position buffers are computed from the config and in no file, so the empty copies are replaced by real ones.
    rotary = model.get_submodule("model.rotary_emb")
    model.get_submodule("model").rotary_emb = type(rotary)(config=config)
    for name, tensor in tensors.items():
        _place(model, name, tensor)
    if architecture.fixed.tie_word_embeddings:
        _place(model, "lm_head.weight", tensors["model.embed_tokens.weight"])
        model.get_submodule("lm_head").weight = model.get_submodule("model.embed_tokens").weight
    for index, layer in enumerate(architecture.layers):
        _tell_sizes(model.get_submodule(f"model.layers.{index}"), layer, architecture.hidden_size)
    # Only now, as a config without an explicit head_dim would derive another one from the new width.
    model.config.hidden_size = architecture.hidden_size
    model.eval()
    return model


def design_tensors(model: PreTrainedModel, architecture: Architecture) -> Tensors:
    """The model's tensors, tied ones once. Raises ValueError where their shapes are not the architecture's."""
    tensors = {name: parameter.detach() for name, parameter in model.named_parameters()}
    _check_shapes({name: tuple(tensor.shape) for name, tensor in tensors.items()}, architecture)
    return tensors


def rms_norm_eps(model: PreTrainedModel) -> float:
    """The epsilon of the model's norms. Raises ValueError where they differ, which no config can say."""
    found = {module.variance_epsilon for module in model.modules() if hasattr(module, "variance_epsilon")}
    if len(found) != 1:
        raise ValueError(f"the norms have different epsilons {sorted(map(str, found))}")
    return cast(float, found.pop())


def write_tensors(path: Path, tensors: Tensors, eps: float) -> None:
    """Write a safetensors file with the mode that ordinary new files get. Raises OSError where it cannot be written."""
    contiguous = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(contiguous, path, metadata={"format": "pt", "rms_norm_eps": repr(eps)})
    except SafetensorError as error:
        # The library's own error says only in its text which error of the system it stands for.
        code = re.search(r"(?:os error|code:) (\d+)", str(error))
        number = int(code.group(1)) if code else errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from error
    path.chmod(mode)


def _config_of(source_path: Path) -> PreTrainedConfig:
    """The config of the family in `source_path`, which may be a compact export itself."""
    values = json.loads((source_path / "config.json").read_text(encoding="utf-8"))
    if "per_layer_config" in values:
        return plain_config(values)
    return cast(PreTrainedConfig, AutoConfig.from_pretrained(str(source_path), local_files_only=True))


def _check_shapes(found: dict[str, tuple[int, ...]], architecture: Architecture) -> None:
    expected = tensor_shapes(architecture)
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise ValueError(f"{name} has shape {found.get(name)}, but the architecture says {expected.get(name)}")


def _place(model: nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Make `tensor` the parameter `name`, and let its module know its new sizes."""
    module_name, _, attribute = name.rpartition(".")
    module = model.get_submodule(module_name)
    setattr(module, attribute, nn.Parameter(tensor))
    if attribute == "weight" and isinstance(module, nn.Linear):
        module.out_features, module.in_features = tensor.shape
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = tensor.shape


def _tell_sizes(block: nn.Module, layer: LayerShape, hidden_size: int) -> None:
    sizes = {
        "self_attn.num_key_value_groups": layer.num_attention_heads // layer.num_key_value_heads,
        "mlp.intermediate_size": layer.intermediate_size,
        "mlp.hidden_size": hidden_size,
        "hidden_size": hidden_size,
    }
    for name, value in sizes.items():
        module_name, _, attribute = name.rpartition(".")
        setattr(block.get_submodule(module_name), attribute, value)


def _is_compact(directory: Path) -> bool:
    with contextlib.suppress(OSError):
        return {file.name for file in directory.iterdir()} <= {ARCHITECTURE_FILE, WEIGHTS_FILE}
    return False
