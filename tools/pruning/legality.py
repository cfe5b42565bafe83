"""Which shapes are legal: query heads that key/value heads share evenly, and a target that is a part of its source.

A refusal names the layer, what is wrong with it, and the nearest legal shape. Unequal query heads per key/value head
cannot be run by grouped-query attention: head h reads key/value head h // (query heads / key/value heads).
"""

from tools.architecture import Architecture, LayerShape
from tools.errors import InputError
from tools.pruning.groups import query_heads_per_group


def layer_shape(
    layer: int,
    num_attention_heads: int,
    num_key_value_heads: int,
    intermediate_size: int,
    source: LayerShape | None = None,
) -> LayerShape:
    """The shape that raw numbers say.

    Raises InputError where attention cannot take them, or where the layer is no part of `source`.
    """
    heads = (num_attention_heads, num_key_value_heads)
    nearest = nearest_shape(*heads, intermediate_size, source)
    legal_heads = f"nearest legal: {nearest.num_attention_heads} and {nearest.num_key_value_heads}."
    if min(heads) < 1:
        raise InputError(
            f"Layer {layer}: {num_attention_heads} query heads and {num_key_value_heads} key/value heads; "
            f"at least one of each must stay; {legal_heads}"
        )
    if num_attention_heads % num_key_value_heads:
        raise InputError(
            f"Layer {layer}: {num_attention_heads} query heads cannot be shared evenly by {num_key_value_heads} "
            f"key/value heads; {legal_heads}"
        )
    if intermediate_size < 1:
        raise InputError(
            f"Layer {layer}: FFN width {intermediate_size}; at least one channel must stay; "
            f"nearest legal: {nearest.intermediate_size}."
        )
    shape = LayerShape(
        num_attention_heads=num_attention_heads,
        num_key_value_heads=num_key_value_heads,
        intermediate_size=intermediate_size,
    )
    if source is not None:
        _require_inside(layer, shape, source, legal_heads)
    return shape


def nearest_shape(
    num_attention_heads: int, num_key_value_heads: int, intermediate_size: int, source: LayerShape | None = None
) -> LayerShape:
    """The legal shape nearest to raw numbers: key/value heads first, then the nearest query heads, rather fewer.

    Inside `source`, where one is given: no more key/value heads, query heads for each of them, or FFN channels.
    """
    groups, width = max(1, num_key_value_heads), max(1, intermediate_size)
    if source is not None:
        groups, width = min(groups, source.num_key_value_heads), min(width, source.intermediate_size)
    fewer = num_attention_heads // groups
    per_group = max(1, min((fewer, fewer + 1), key=lambda heads: abs(heads * groups - num_attention_heads)))
    if source is not None:
        per_group = min(per_group, query_heads_per_group(source))
    return LayerShape(num_attention_heads=groups * per_group, num_key_value_heads=groups, intermediate_size=width)


def require_part(source: Architecture, target: Architecture) -> None:
    """Raises InputError where `target` is not `source` with some groups removed."""
    fixed, wanted = source.fixed.model_dump(), target.fixed.model_dump()
    for name in fixed:
        if wanted[name] != fixed[name]:
            raise InputError(
                f"The design is not a part of the source model: {name} is {wanted[name]} and cannot change; "
                f"nearest legal: {fixed[name]}."
            )
    if len(target.layers) != len(source.layers):
        raise InputError(
            f"The design is not a part of the source model: it has {len(target.layers)} layers, and depth is never "
            f"pruned; nearest legal: {len(source.layers)}."
        )
    if target.hidden_size > source.hidden_size:
        raise InputError(
            f"The design's hidden size {target.hidden_size} is above the source's; nearest legal: {source.hidden_size}."
        )
    for index, (old, new) in enumerate(zip(source.layers, target.layers, strict=True)):
        layer_shape(index, new.num_attention_heads, new.num_key_value_heads, new.intermediate_size, source=old)


def _require_inside(layer: int, shape: LayerShape, source: LayerShape, legal_heads: str) -> None:
    larger = f"Layer {layer} of the design is larger than the source's"
    if shape.num_key_value_heads > source.num_key_value_heads:
        raise InputError(
            f"{larger}: {shape.num_key_value_heads} key/value heads against {source.num_key_value_heads}; {legal_heads}"
        )
    if query_heads_per_group(shape) > query_heads_per_group(source):
        raise InputError(
            f"{larger}: {query_heads_per_group(shape)} query heads for each key/value head against "
            f"{query_heads_per_group(source)}; {legal_heads}"
        )
    if shape.intermediate_size > source.intermediate_size:
        raise InputError(f"{larger}: FFN width {shape.intermediate_size}; nearest legal: {source.intermediate_size}.")
