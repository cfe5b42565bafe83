"""The config.json of an export whose layers differ in their widths, and the way back from it.

Widths per layer are written in the form that transformers has for them: `per_layer_config`, layer -> its own values.
"""

from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tools.architecture import Architecture
from tools.errors import InputError
from tools.export.config_file import config_values

CODE_FILE = "modeling_penjing.py"
MODEL_TYPE_PREFIX = "penjing_"

_FAMILY_NAMES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
_NOT_PLAIN = ("auto_map", "per_layer_config", "architectures")


def compact_config(
    base: PreTrainedConfig, architecture: Architecture, eps: float, dtype: torch.dtype
) -> dict[str, Any]:
    """The config.json of a compact export. Values of the whole model are the widest layer's."""
    layers = [layer.model_dump() for layer in architecture.layers]
    widest = {name: max(layer[name] for layer in layers) for name in layers[0]}
    family = architecture.fixed.model_type
    name = f"Penjing{_FAMILY_NAMES[family]}"
    module = CODE_FILE.removesuffix(".py")
    digits = len(str(len(layers) - 1))
    return config_values(base.to_diff_dict(), architecture, eps, dtype) | {
        "architectures": [f"{name}ForCausalLM"],
        "auto_map": {"AutoConfig": f"{module}.{name}Config", "AutoModelForCausalLM": f"{module}.{name}ForCausalLM"},
        "model_type": MODEL_TYPE_PREFIX + family,
        **widest,
        # With leading zeros, as transformers writes it, the layers stay in order where keys are sorted.
        "per_layer_config": {str(index).zfill(digits): layer for index, layer in enumerate(layers)},
    }


def plain_config(values: dict[str, Any]) -> PreTrainedConfig:
    """The config of the stock family behind the config.json of a compact export: all but the widths of its layers.

    Raises InputError where it is none.
    """
    family = str(values.get("model_type", "")).removeprefix(MODEL_TYPE_PREFIX)
    if family not in _FAMILY_NAMES or family == values.get("model_type"):
        raise InputError(
            f"Models of type {values.get('model_type')!r} are no compact exports; choose another directory."
        )
    kept = {key: value for key, value in values.items() if key not in _NOT_PLAIN}
    # One head divides every hidden size, which Llama's config insists on.
    one = {"num_attention_heads": 1, "num_key_value_heads": 1, "model_type": family}
    return CONFIG_MAPPING[family].from_dict(kept | one)
