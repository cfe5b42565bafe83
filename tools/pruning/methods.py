"""Post-training pruning methods of the field behind one interface: how groups are judged, compared and made up for.

Traditional post-training pruning is the one-shot limit of pruning in the training loop (EfficientLLM, arXiv 2502.06663,
Fig. 2b), so these methods are what growing is compared with. Where an author's code has a known fault (query heads
scored with another key/value head than they read, only the last sample counted), it is not kept.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from transformers import PreTrainedModel

from tools.architecture import Architecture, LayerShape
from tools.errors import InputError
from tools.pruning.criteria import LayerwiseCriterion, make_criterion
from tools.pruning.criteria.evidence import Calibration, Report, gather
from tools.pruning.criteria.fluctuation import compensate, give_biases
from tools.pruning.criteria.layerwise import choose_layer_after_layer
from tools.pruning.greedy import SaliencyDesigner, with_kv_groups, with_query_heads_per_group
from tools.pruning.groups import PRUNING_TYPES, PruningType, ffn_channel_parameters, query_heads_per_group
from tools.pruning.second_order import repair
from tools.pruning.selection import plan_cut
from tools.pruning.surgery import cut
from tools.settings import SpaceSettings

Scope = Literal["global", "uniform"]
Repair = Literal["none", "second_order", "bias"]

_BLOCKS: tuple[PruningType, ...] = ("attention", "ffn")


@dataclass(frozen=True)
class Method:
    """A post-training pruning method.

    `criterion` is a name in `tools.pruning.criteria.CRITERIA`. With the scope "global" the groups of all layers and
    types are ranked together, per parameter freed; with "uniform" every layer loses the same share of each width, and
    only the groups of one layer are ranked. `spared` are the shares of the depth at its begin and end that a uniform
    method leaves whole. `layer_after_layer` methods find the widths first, and then judge the groups of each layer anew
    behind the cuts of the layers before it.
    """

    criterion: str
    scope: Scope
    types: tuple[PruningType, ...]
    repair: Repair
    description: str
    layer_after_layer: bool = False
    spared: tuple[Fraction, Fraction] = (Fraction(0), Fraction(0))


# LLM-Pruner's scripts cut layers 4 to 29 of LLaMA's 32.
_LLM_PRUNER = Method(
    criterion="taylor_element",
    scope="uniform",
    types=_BLOCKS,
    repair="none",
    spared=(Fraction(4, 32), Fraction(2, 32)),
    description="LLM-Pruner (arXiv 2305.11627), its script's setting: |w g| of every weight, the same share of all "
    "layers but the first eighth and the last sixteenth",
)

METHODS: dict[str, Method] = {
    "llm-pruner": _LLM_PRUNER,
    "llm-pruner-global": replace(
        _LLM_PRUNER,
        scope="global",
        spared=(Fraction(0), Fraction(0)),
        description="LLM-Pruner with global pruning: |w g| of every weight, all layers ranked together",
    ),
    "llm-pruner-vector": replace(
        _LLM_PRUNER,
        criterion="taylor_vector",
        description="LLM-Pruner, vector-wise: |sum of w g| over a channel, seen from one side",
    ),
    "llm-pruner-mixed": replace(
        _LLM_PRUNER,
        criterion="taylor_element_mixed",
        description="LLM-Pruner, param_mix: |w g - w^2 g^2 / 2| of every weight",
    ),
    "structured-obs": Method(
        criterion="obs_greedy",
        scope="uniform",
        types=_BLOCKS,
        repair="second_order",
        layer_after_layer=True,
        description="Structured SparseGPT / ZipLM (arXiv 2301.00774, 2302.04089): groups go one by one by the layer's "
        "squared error, the others are updated, layer after layer, the same share of each",
    ),
    "wanda-sp": Method(
        criterion="activation",
        scope="uniform",
        types=_BLOCKS,
        repair="none",
        layer_after_layer=True,
        description="Wanda-sp (arXiv 2306.11695, structural as in FLAP's code): |W| times input norm, layer after "
        "layer, the same share of each",
    ),
    "wanda-sp-repaired": Method(
        criterion="activation",
        scope="uniform",
        types=_BLOCKS,
        repair="second_order",
        layer_after_layer=True,
        description="Wanda-sp with Penjing's second-order repair of every layer",
    ),
    "flap": Method(
        criterion="fluctuation",
        scope="global",
        types=_BLOCKS,
        repair="bias",
        description="FLAP (arXiv 2312.11983), adaptive over layers and types (AL-AM): input variance times squared "
        "column norm, standardised; biases stand in for the means; Llama only",
    ),
    "magnitude": replace(
        _LLM_PRUNER,
        criterion="magnitude",
        description="Squared weights (LLM-Pruner's L2), in the layers that LLM-Pruner cuts",
    ),
    "random": replace(
        _LLM_PRUNER,
        criterion="random",
        description="Groups drawn by chance (LLM-Pruner's random), in the layers that LLM-Pruner cuts",
    ),
    "fisher": Method(
        criterion="fisher",
        scope="global",
        types=PRUNING_TYPES,
        repair="none",
        description="Diagonal Fisher of each group's gate, all types and layers ranked together, no repair",
    ),
    "penjing": Method(
        criterion="token_sequence",
        scope="global",
        types=PRUNING_TYPES,
        repair="second_order",
        description="Penjing's own saliency and repair in one shot, without the training: diagonal Fisher of tokens "
        "and sequences, all types and layers ranked together, second-order repair (EfficientLLM variant B, arXiv "
        "2502.06663)",
    ),
}
"""Every method by name."""


def method_named(name: str, types: Sequence[PruningType] | None = None) -> Method:
    """The method `name`, cutting `types` instead of its own where given. Raises InputError where there is none."""
    if name not in METHODS:
        raise InputError(f"There is no pruning method {name!r}; the methods are: {', '.join(METHODS)}.")
    return METHODS[name] if types is None else replace(METHODS[name], types=tuple(types))


def prune_model(
    model: PreTrainedModel,
    source: Architecture,
    method: Method,
    space: SpaceSettings,
    calibration: Calibration,
    damping: float,
    seed: int,
    report: Report,
) -> Architecture:
    """Cut the live `model` of architecture `source` to at most `space.max_parameters`; returns what it now is.

    Raises InputError where the method cannot go so far, or cannot be used with this family.
    """
    if method.repair == "bias":
        source = give_biases(model, source)
    require_reachable(source, method, space)
    criterion = make_criterion(method.criterion, model, seed, damping)
    needed = criterion.needs_statistics or method.repair != "none"
    statistics = gather(model, criterion, calibration, needed, report)
    saliency = criterion.saliency(statistics)
    if method.scope == "uniform":
        design = uniform_design(source, method, space)
    else:
        # A last step that frees more than it must is made up for by the most salient steps that still fit.
        exact = space.model_copy(update={"min_parameters": space.max_parameters})
        design = SaliencyDesigner(source, saliency, exact, method.types).greedy()
    left = design
    if method.layer_after_layer:
        if not isinstance(criterion, LayerwiseCriterion):
            raise ValueError(f"{method.criterion!r} does not judge single layers")
        repairing = damping if method.repair == "second_order" else None
        walked = choose_layer_after_layer(model, source, design, criterion, calibration, repairing, report)
        saliency = replace(walked, stem=saliency.stem)
        # Blocks are made up for by now; what the stem loses is not.
        left = Architecture(fixed=source.fixed, hidden_size=design.hidden_size, layers=source.layers)
    if method.repair == "second_order":
        repair(model, plan_cut(source, left, saliency), statistics, damping)
    elif method.repair == "bias":
        compensate(model, plan_cut(source, left, saliency), statistics)
    cut(model, plan_cut(source, design, saliency))
    return design


def require_reachable(source: Architecture, method: Method, space: SpaceSettings) -> None:
    """Raises InputError, with the smallest size, where `method` cannot make `source` as small as the space wants."""
    smallest = _shrunk(source, Fraction(1), method, space).parameters
    if smallest > space.max_parameters:
        raise InputError(
            f"The smallest model that can be reached by cutting {', '.join(method.types)} in these steps has "
            f"{smallest:,} parameters, more than the target of {space.max_parameters:,}: raise target_parameters, cut "
            "more types, or take a smaller source."
        )


def uniform_design(source: Architecture, method: Method, space: SpaceSettings) -> Architecture:
    """`source` with the smallest common share of all widths gone that meets the budget.

    Widths are rounded up to what is legal. As whole heads or multiples of many layers go at once, this can cut more
    than it must; FFN channels are given back while they fit, one step a layer, first layers first. Raises InputError
    where the budget cannot be met.
    """
    require_reachable(source, method, space)
    shares = sorted(_shares(source, space))
    first = bisect_left(
        shares, True, key=lambda share: _shrunk(source, share, method, space).parameters <= space.max_parameters
    )
    return _given_back(_shrunk(source, shares[first], method, space), source, method, space)


def _shrunk(source: Architecture, share: Fraction, method: Method, space: SpaceSettings) -> Architecture:
    """`source` without `share` of each width, rounded up to legal widths; for the scope "global" of all layers."""
    hidden = source.hidden_size
    if "stem" in method.types:
        hidden = _width(hidden, space.hidden_multiple, share)
    layers = list(source.layers)
    for index in _cut_layers(source, method):
        layers[index] = _shrunk_layer(layers[index], share, method.types, space)
    return Architecture(fixed=source.fixed, hidden_size=hidden, layers=tuple(layers))


def _shrunk_layer(shape: LayerShape, share: Fraction, types: Sequence[PruningType], space: SpaceSettings) -> LayerShape:
    if "ffn" in types:
        width = _width(shape.intermediate_size, space.ffn_multiple, share)
        shape = shape.model_copy(update={"intermediate_size": width})
    if "attention" not in types:
        return shape
    if space.attention_unit == "kv_group":
        return with_kv_groups(shape, _width(shape.num_key_value_heads, 1, share))
    return with_query_heads_per_group(shape, _width(query_heads_per_group(shape), 1, share))


def _cut_layers(source: Architecture, method: Method) -> range:
    depth = len(source.layers)
    begin, end = (round(share * depth) for share in method.spared)
    return range(begin, depth - end) if method.scope == "uniform" else range(depth)


def _width(width: int, multiple: int, share: Fraction) -> int:
    """The smallest legal width that is not below (1 - share) of `width`; at least one multiple stays."""
    steps = max(1, -((share - 1) * width // multiple))
    return min(width, steps * multiple)


def _shares(source: Architecture, space: SpaceSettings) -> set[Fraction]:
    """All shares at which some width of `source` changes, 0 and 1 too."""
    units = {(source.hidden_size, space.hidden_multiple)}
    for shape in source.layers:
        units |= {(shape.intermediate_size, space.ffn_multiple), (shape.num_key_value_heads, 1)}
        units.add((query_heads_per_group(shape), 1))
    return {1 - Fraction(left, width) for width, multiple in units for left in range(0, width + 1, multiple)} | {
        Fraction(0)
    }


def _given_back(design: Architecture, source: Architecture, method: Method, space: SpaceSettings) -> Architecture:
    places = [
        index
        for index in _cut_layers(source, method)
        if design.layers[index].intermediate_size < source.layers[index].intermediate_size
    ]
    if not places:
        return design
    step = space.ffn_multiple * ffn_channel_parameters(design)
    rounds, rest = divmod((space.max_parameters - design.parameters) // step, len(places))
    layers = list(design.layers)
    for place, index in enumerate(places):
        steps = rounds + (place < rest)
        width = min(
            source.layers[index].intermediate_size, layers[index].intermediate_size + steps * space.ffn_multiple
        )
        layers[index] = layers[index].model_copy(update={"intermediate_size": width})
    return design.with_layers(layers)
