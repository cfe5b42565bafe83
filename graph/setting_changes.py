"""Settings by their full names, such as `recipe.training_steps`, and what changed between two sets of them."""

from collections.abc import Mapping
from typing import Any


def by_full_name(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested settings as one level of names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= by_full_name(value, f"{above}{key}.") if isinstance(value, Mapping) else {above + key: value}
    return found


def setting_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Each setting of `new` that is another than in `old`, with both values."""
    before, after = by_full_name(old), by_full_name(new)
    return [f"{name}: {before.get(name)!r} -> {value!r}" for name, value in after.items() if before.get(name) != value]
