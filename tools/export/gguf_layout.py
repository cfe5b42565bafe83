"""How a GGUF file lays out a design: the names of its tensors, and the shapes that it can say."""

from pathlib import Path

from tools.architecture import Architecture
from tools.export.padded_shapes import padded_architecture

FLOAT_MIXES = ("f16", "f32", "bf16")
"""Mixes of `tools.export.quantisation` that quantise nothing."""

_WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    """What llama.cpp calls the tensor that transformers calls `name`."""
    module, _, part = name.rpartition(".")
    if module in _WHOLE:
        return f"{_WHOLE[module]}.{part}"
    _, _, index, inner = module.split(".", 3)
    return f"blk.{index}.{_LAYER[inner]}.{part}"


def written_architecture(architecture: Architecture) -> Architecture:
    """The design as a GGUF file holds it: as it is, but for Qwen3, whose layers are padded where they differ.

    llama.cpp has an architecture with shapes per layer ("deci"), but none of these has norms of queries and keys.
    """
    return padded_architecture(architecture) if architecture.fixed.model_type == "qwen3" else architecture


def target_file(destination: Path, mix: str) -> Path:
    """Where the file goes: `destination` where that names a file, or the usual name in the directory."""
    if destination.suffix == ".gguf":
        return destination
    return destination / ("model.gguf" if mix in FLOAT_MIXES else f"model-{mix.upper()}.gguf")
