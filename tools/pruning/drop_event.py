"""One event of continuous dropping, as data: what was on offer, what went, and what is left."""

from pydantic import BaseModel, ConfigDict

from tools.architecture import Architecture
from tools.pruning.groups import PruningType


class DropEvent(BaseModel):
    """The record of one event; the two auto-design plots of EfficientLLM (Fig. A0) are drawn from a run's events.

    `least_saliency` is the saliency per parameter of each type's least salient next step, None where a type cannot
    shrink; `removed` counts groups (a stem channel once for the whole network); `pruned_share` is the share of each
    type's groups that is gone since the source; `tokens` counts training tokens before the event.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    step: int
    tokens: int
    least_saliency: dict[PruningType, float | None]
    removed: dict[PruningType, int]
    pruned_share: dict[PruningType, float]
    parameters: int
    hidden_size: int


def removed_between(before: Architecture, after: Architecture) -> dict[PruningType, int]:
    """Groups of each type that `after` lacks; attention counts query heads."""
    pairs = list(zip(before.layers, after.layers, strict=True))
    return {
        "attention": sum(old.num_attention_heads - new.num_attention_heads for old, new in pairs),
        "ffn": sum(old.intermediate_size - new.intermediate_size for old, new in pairs),
        "stem": before.hidden_size - after.hidden_size,
    }


def pruned_share(source: Architecture, now: Architecture) -> dict[PruningType, float]:
    """Share of each type's groups that is gone since `source`, from 0 to 1."""
    removed = removed_between(source, now)
    whole: dict[PruningType, int] = {
        "attention": sum(layer.num_attention_heads for layer in source.layers),
        "ffn": sum(layer.intermediate_size for layer in source.layers),
        "stem": source.hidden_size,
    }
    return {kind: removed[kind] / whole[kind] for kind in removed}
