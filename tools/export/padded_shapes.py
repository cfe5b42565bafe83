"""The shapes of exact zero padding: layers made equal, so that a stock model class holds the design."""

from tools.architecture import Architecture, LayerShape
from tools.errors import InputError


def padded_architecture(architecture: Architecture) -> Architecture:
    """The smallest homogeneous architecture that every layer of `architecture` fits into, group by group.

    Llama's class refuses a hidden size that is no multiple of the query heads. Without biases MistralForCausalLM stands
    in for it; with biases, which only Llama has in these places, heads are added until they divide the hidden size.
    Raises InputError where none do.
    """
    groups = max(layer.num_key_value_heads for layer in architecture.layers)
    per_group = max(layer.num_attention_heads // layer.num_key_value_heads for layer in architecture.layers)
    if needs_dividing_heads(architecture):
        groups, per_group = _dividing_heads(architecture.hidden_size, groups, per_group)
    shape = LayerShape(
        num_attention_heads=groups * per_group,
        num_key_value_heads=groups,
        intermediate_size=max(layer.intermediate_size for layer in architecture.layers),
    )
    return architecture.with_layers([shape] * len(architecture.layers))


def needs_dividing_heads(architecture: Architecture) -> bool:
    """Whether only Llama's class can hold the design, so that the query heads must divide the hidden size."""
    fixed = architecture.fixed
    return fixed.model_type == "llama" and (fixed.qkv_bias or fixed.attention_output_bias or fixed.mlp_bias)


def _dividing_heads(hidden_size: int, groups: int, per_group: int) -> tuple[int, int]:
    """The fewest heads, as (groups, heads per group) of at least these, whose number divides `hidden_size`."""
    for heads in range(groups * per_group, hidden_size + 1):
        if hidden_size % heads == 0:
            for wider in range(groups, heads // per_group + 1):
                if heads % wider == 0:
                    return wider, heads // wider
    raise InputError(
        f"No stock class holds biases with hidden size {hidden_size} and {groups * per_group} query heads; "
        "keep a hidden size that is a multiple of the query heads."
    )
