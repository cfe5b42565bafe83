"""Llama, Mistral, Qwen2 and Qwen3 whose layers differ in their widths. Opened with trust_remote_code=True.

Each layer is the stock layer of its family, made with the widths that `per_layer_config` in config.json has for it:
num_attention_heads, num_key_value_heads and intermediate_size. head_dim and hidden_size are the same in all layers.
Nothing else than the package transformers is needed. Licence: Apache-2.0.
"""

import copy
from typing import Any

from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)


def layer_config(config: Any, index: int) -> Any:
    """The config of layer `index`: that of the model with the layer's own widths in it."""
    layers = config.per_layer_config
    if not isinstance(layers, dict):
        return layers[index]
    # Versions of transformers that know nothing of per_layer_config keep it as it is in the file.
    own = copy.copy(config)
    widths: dict[str, int] = {int(key): value for key, value in layers.items()}.get(index, {})
    for name, value in widths.items():
        setattr(own, name, value)
    return own


class WidthsPerLayer:
    """A config with widths per layer."""

    def validate(self) -> None:
        """All checks of the family but one: head_dim is explicit, so heads need not divide the hidden size."""
        for check in getattr(self, "__class_validators__", []):
            if check.__name__ != "validate_architecture":
                check(self)


class LayersOfTheirOwn:
    """A model whose layers have the widths that its config has for each of them."""

    def __init__(self, config: Any) -> None:
        # The stock class makes equal layers, of the widths that the config has for the whole model.
        equal = copy.copy(config)
        equal.per_layer_config = None
        super().__init__(equal)  # type: ignore[call-arg]
        config._attn_implementation = equal._attn_implementation
        model: Any = self
        for index, layer in enumerate(model.model.layers):
            own = type(layer)(layer_config(config, index), index)
            # A change of the attention's implementation is written into the model's one config.
            own.self_attn.config = own.mlp.config = config
            model.model.layers[index] = own
        model.config = model.model.config = config
        model.post_init()


class PenjingLlamaConfig(WidthsPerLayer, LlamaConfig):
    """LlamaConfig with widths per layer."""

    model_type = "penjing_llama"


class PenjingLlamaForCausalLM(LayersOfTheirOwn, LlamaForCausalLM):
    """LlamaForCausalLM with layers of different widths."""

    config_class = PenjingLlamaConfig


class PenjingMistralConfig(WidthsPerLayer, MistralConfig):
    """MistralConfig with widths per layer."""

    model_type = "penjing_mistral"


class PenjingMistralForCausalLM(LayersOfTheirOwn, MistralForCausalLM):
    """MistralForCausalLM with layers of different widths."""

    config_class = PenjingMistralConfig


class PenjingQwen2Config(WidthsPerLayer, Qwen2Config):
    """Qwen2Config with widths per layer."""

    model_type = "penjing_qwen2"


class PenjingQwen2ForCausalLM(LayersOfTheirOwn, Qwen2ForCausalLM):
    """Qwen2ForCausalLM with layers of different widths."""

    config_class = PenjingQwen2Config


class PenjingQwen3Config(WidthsPerLayer, Qwen3Config):
    """Qwen3Config with widths per layer."""

    model_type = "penjing_qwen3"


class PenjingQwen3ForCausalLM(LayersOfTheirOwn, Qwen3ForCausalLM):
    """Qwen3ForCausalLM with layers of different widths."""

    config_class = PenjingQwen3Config
