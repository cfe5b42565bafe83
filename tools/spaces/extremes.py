"""The smallest and the largest legal design of a space of pruned models, as far as steps by saliency reach them."""

from tools.architecture import Architecture
from tools.errors import InputError
from tools.pruning.greedy import SaliencyDesigner, with_kv_groups
from tools.pruning.saliency import Saliency
from tools.settings import WidthSettings
from tools.spaces.pruned_lm import PrunedLMSpace


def narrowest(source: Architecture, settings: WidthSettings) -> Architecture:
    """The design with the least of everything that the steps of the widths allow, whatever the band of sizes."""
    layers = [
        with_kv_groups(layer, 1).model_copy(
            update={"intermediate_size": min(settings.ffn_multiple, layer.intermediate_size)}
        )
        for layer in source.layers
    ]
    hidden = min(settings.hidden_multiple, source.hidden_size)
    return Architecture(fixed=source.fixed, hidden_size=hidden, layers=tuple(layers))


def smallest_legal(space: PrunedLMSpace, saliency: Saliency) -> Architecture | None:
    """The least salient groups cut to just below the band, the most salient ones given back into it; None if none is.

    The true smallest one may be smaller by less than the widest step.
    """
    settings = space.settings
    least = narrowest(space.source, settings)
    if least.parameters >= settings.min_parameters:
        return least if _legal(space, least) else None
    below = settings.model_copy(update={"max_parameters": settings.min_parameters, "min_parameters": 0})
    found = space.designer.grow(SaliencyDesigner(space.source, saliency, below).shrink(space.source))
    return found if _legal(space, found) else None


def largest_legal(space: PrunedLMSpace, saliency: Saliency) -> Architecture | None:
    """The saliency-greedy design, filled up; None where it is below the band."""
    filled = space.settings.model_copy(update={"min_parameters": space.settings.max_parameters})
    try:
        found = SaliencyDesigner(space.source, saliency, filled).fit(space.source)
    except InputError:
        return None
    return found if _legal(space, found) else None


def _legal(space: PrunedLMSpace, design: Architecture) -> bool:
    band = range(space.settings.min_parameters, space.settings.max_parameters + 1)
    return design.parameters in band and not space.excesses(design)
