"""A design of another source model in words that mean something here: its widths relative to its own source's."""

from tools.architecture import Architecture, LayerShape

_THIRDS = ("early", "middle", "late")


def describe_shape(architecture: Architecture, reference: Architecture) -> str:
    """One line like `hidden 90 %; early layers kv_heads 100 %, ffn 80 %; middle ...`, in per cent of the reference."""
    layers, source = architecture.layers, reference.layers
    parts = [f"hidden {_percent(architecture.hidden_size, reference.hidden_size)}"]
    if len(layers) != len(source):
        parts.append(f"layers {_percent(len(layers), len(source))}")
    for place, name in enumerate(_THIRDS):
        own, whole = _third(layers, place), _third(source, place)
        widths = [
            f"{word} {_percent(_mean(own, kind), _mean(whole, kind))}"
            for word, kind in (("kv_heads", "num_key_value_heads"), ("ffn", "intermediate_size"))
        ]
        parts.append(f"{name} layers {', '.join(widths)}")
    return "; ".join(parts)


def _third(layers: tuple[LayerShape, ...], place: int) -> tuple[LayerShape, ...]:
    """At least one layer, also of two."""
    count = len(layers)
    first = min(place * count // 3, count - 1)
    return layers[first : max(first + 1, (place + 1) * count // 3)]


def _mean(layers: tuple[LayerShape, ...], kind: str) -> float:
    return float(sum(getattr(layer, kind) for layer in layers)) / len(layers)


def _percent(value: float, whole: float) -> str:
    return f"{100 * value / whole:.0f} %"
