"""The model families that can be cut, and how their configs say what an Architecture says."""

from typing import TYPE_CHECKING, Any

from tools.architecture import Architecture, FixedShape, LayerShape
from tools.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

SUPPORTED = ("llama", "mistral", "qwen2", "qwen3")
SUPPORTED_NAMES = "Llama (SmolLM too), Mistral, Qwen2 and Qwen3"

# What the config classes assume where config.json leaves a key out; transformers' own import takes seconds.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32},
    "mistral": {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32},
    "qwen2": {"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32},
    "qwen3": {"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32},
}
_KEY_VALUE_HEADS = {"llama": None, "mistral": 8, "qwen2": 32, "qwen3": 32}
_HEAD_DIM = {"llama": None, "mistral": None, "qwen2": None, "qwen3": 128}


def architecture_from_config(config: "dict[str, Any] | PreTrainedConfig") -> Architecture:
    """The architecture that a transformers config (or the dictionary in its config.json) describes.

    Raises InputError for other families, for mixtures of experts and for quantised checkpoints.
    """
    values = dict(config) if isinstance(config, dict) else config.to_dict()
    family = values.get("model_type")
    if family not in SUPPORTED:
        named = f"Models of type {family!r}" if family else "Configs without a model_type"
        raise InputError(f"{named} cannot be cut; choose one of the families {SUPPORTED_NAMES}, without experts.")
    if values.get("quantization_config"):
        raise InputError("Quantised checkpoints cannot be cut; choose the model's plain float weights.")
    if values.get("per_layer_config"):
        raise InputError("Models with per-layer configs cannot be a source; choose one with equal layers.")
    values = _DEFAULTS[family] | values
    heads = values.get("num_attention_heads", 32)
    key_value_heads = values.get("num_key_value_heads", _KEY_VALUE_HEADS[family])
    head_dim = values.get("head_dim", _HEAD_DIM[family])
    shape = LayerShape(
        num_attention_heads=heads,
        num_key_value_heads=heads if key_value_heads is None else key_value_heads,
        intermediate_size=values["intermediate_size"],
    )
    attention_bias = family in ("llama", "qwen3") and bool(values.get("attention_bias", False))
    fixed = FixedShape(
        model_type=family,
        vocab_size=values["vocab_size"],
        head_dim=values["hidden_size"] // heads if head_dim is None else head_dim,
        tie_word_embeddings=bool(values.get("tie_word_embeddings", False)),
        qkv_bias=attention_bias or family == "qwen2",
        attention_output_bias=attention_bias,
        mlp_bias=family == "llama" and bool(values.get("mlp_bias", False)),
        qk_norm=family == "qwen3",
    )
    layers = (shape,) * int(values["num_hidden_layers"])
    return Architecture(fixed=fixed, hidden_size=values["hidden_size"], layers=layers)


def tensor_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a design, tied ones once, as transformers names them in all four families."""
    fixed, hidden = architecture.fixed, architecture.hidden_size
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (fixed.vocab_size, hidden)}
    for index in range(len(architecture.layers)):
        for name, shape in _layer_shapes(architecture, index).items():
            shapes[f"model.layers.{index}.{name}"] = shape
    shapes["model.norm.weight"] = (hidden,)
    if not fixed.tie_word_embeddings:
        shapes["lm_head.weight"] = (fixed.vocab_size, hidden)
    return shapes


def _layer_shapes(architecture: Architecture, index: int) -> dict[str, tuple[int, ...]]:
    fixed, hidden, layer = architecture.fixed, architecture.hidden_size, architecture.layers[index]
    query_width = layer.num_attention_heads * fixed.head_dim
    key_value_width = layer.num_key_value_heads * fixed.head_dim
    linear = {
        "self_attn.q_proj": (query_width, hidden, fixed.qkv_bias),
        "self_attn.k_proj": (key_value_width, hidden, fixed.qkv_bias),
        "self_attn.v_proj": (key_value_width, hidden, fixed.qkv_bias),
        "self_attn.o_proj": (hidden, query_width, fixed.attention_output_bias),
        "mlp.gate_proj": (layer.intermediate_size, hidden, fixed.mlp_bias),
        "mlp.up_proj": (layer.intermediate_size, hidden, fixed.mlp_bias),
        "mlp.down_proj": (hidden, layer.intermediate_size, fixed.mlp_bias),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (outputs, inputs, has_bias) in linear.items():
        shapes[f"{name}.weight"] = (outputs, inputs)
        if has_bias:
            shapes[f"{name}.bias"] = (outputs,)
    if fixed.qk_norm:
        shapes["self_attn.q_norm.weight"] = shapes["self_attn.k_norm.weight"] = (fixed.head_dim,)
    shapes["input_layernorm.weight"] = shapes["post_attention_layernorm.weight"] = (hidden,)
    return shapes
