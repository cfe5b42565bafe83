"""What every config.json of an export says, whatever class opens it."""

import json
from pathlib import Path
from typing import Any

import torch

from tools.architecture import Architecture

_NOT_CONFIG = {"_name_or_path", "_model_name_or_path", "quantization_config", "transformers_version", "architectures"}
_NOT_CONFIG |= {"auto_map", "per_layer_config", "rope_theta", "rope_scaling", "torch_dtype"}


def config_values(base: dict[str, Any], architecture: Architecture, eps: float, dtype: torch.dtype) -> dict[str, Any]:
    """The values of the live model's config `base`, with all that the design and the file decide."""
    fixed = architecture.fixed
    return {key: value for key, value in base.items() if key not in _NOT_CONFIG} | {
        "hidden_size": architecture.hidden_size,
        "num_hidden_layers": len(architecture.layers),
        "vocab_size": fixed.vocab_size,
        "head_dim": fixed.head_dim,
        "tie_word_embeddings": fixed.tie_word_embeddings,
        "rms_norm_eps": eps,
        "dtype": str(dtype).removeprefix("torch."),
    }


def write_config(directory: Path, config: dict[str, Any]) -> None:
    """Write config.json, with the older names of what has a new one. Raises OSError where it cannot be written."""
    (directory / "config.json").write_text(json.dumps(config | _older_names(config), indent=2) + "\n", encoding="utf-8")


def _older_names(config: dict[str, Any]) -> dict[str, Any]:
    """rope_theta, rope_scaling, torch_dtype: software that reads only these would go on with a default and be wrong."""
    older: dict[str, Any] = {"torch_dtype": config["dtype"]}
    rope = config.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        older["rope_theta"] = rope["rope_theta"]
        if rope.get("rope_type", "default") != "default":
            older["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
    return older
