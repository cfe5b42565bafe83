"""A model directory as something to export: plain, padded by an earlier export, or compact."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from tools.architecture import Architecture
from tools.errors import InputError
from tools.export.compact import ARCHITECTURE_FILE, design_tensors, load_compact, model_from_tensors
from tools.export.unpadding import design_within, unpadded
from tools.families import tensor_shapes
from tools.fingerprint import model_fingerprint, safetensors_header
from tools.sources import load_model, load_tokenizer, resolve_source, weight_files

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class OpenedModel:
    """A live model of `architecture`, in the type that its weights are stored in. `path` has its tokenizer."""

    model: PreTrainedModel
    architecture: Architecture
    path: Path
    fingerprint: str


def open_directory(path: Path) -> OpenedModel:
    """The model in the directory `path`; zeros that an earlier export padded it with are left out.

    Raises InputError where there is no model of the supported families, or none that is whole.
    """
    if (path / ARCHITECTURE_FILE).is_file() and _has_widths_per_layer(path):
        model = load_compact(path, path)
        architecture = Architecture.model_validate_json((path / ARCHITECTURE_FILE).read_bytes())
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        return OpenedModel(model, architecture, path, model_fingerprint(config, weight_files(path)))
    source = resolve_source(str(path))
    model = load_model(source.path, _require_whole(source.path, source.architecture))
    tensors = design_tensors(model, source.architecture)
    design = design_within(tensors, source.architecture)
    if design != source.architecture:
        model = model_from_tensors(model.config, design, unpadded(tensors, source.architecture, design))
    return OpenedModel(model, design, source.path, source.fingerprint)


def require_fitting_tokenizer(path: Path, vocab_size: int) -> None:
    """Refuse a tokenizer that text can drive beyond the embedding. Raises InputError, also where there is none."""
    tokenizer = load_tokenizer(path)
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    highest = max(set(tokenizer.get_vocab().values()) - special, default=-1)
    if highest >= vocab_size:
        raise InputError(
            f"The tokenizer in {path} has {highest + 1:,} tokens, but the model's embedding has {vocab_size:,}; put "
            "the model's own tokenizer there."
        )


def _has_widths_per_layer(path: Path) -> bool:
    try:
        return "per_layer_config" in json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _require_whole(path: Path, architecture: Architecture) -> torch.dtype:
    """The type of the weights. Raises InputError where one is missing or of another shape than the config says.

    transformers would fill a missing one at random.
    """
    found = {name: entry for file in weight_files(path) for name, entry in safetensors_header(file).items()}
    for name, shape in tensor_shapes(architecture).items():
        if name not in found:
            raise InputError(f"The weights in {path} lack {name}, which config.json asks for; fetch the model again.")
        if tuple(found[name]["shape"]) != shape:
            raise InputError(
                f"{name} in {path} has shape {tuple(found[name]['shape'])}, but config.json says {shape}; fetch both "
                "files again."
            )
    stored = str(found["model.embed_tokens.weight"]["dtype"])
    if stored not in _DTYPES:
        raise InputError(f"The weights in {path} are of type {stored}; choose the model's plain float weights.")
    return _DTYPES[stored]
