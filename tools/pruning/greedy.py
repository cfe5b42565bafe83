"""EfficientLLM's own design: the least salient groups go first until the budget is met; and the forecast it implies.

All three pruning types are ranked on one scale, saliency per parameter freed (arXiv 2502.06663, Fig. 2 and A0). Widths
move in steps (to the next multiple of `ffn_multiple` or `hidden_multiple`; one KV group, or one query head from every
group), so a step's saliency is the sum over its groups. The same ranking, run backwards, grows a design that is below
the smallest allowed size.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tools.architecture import Architecture, LayerShape
from tools.costs import Excess, file_excess, file_mb, memory_excess
from tools.errors import InputError
from tools.pruning.groups import (
    PRUNING_TYPES,
    PruningType,
    ffn_channel_cost,
    kv_group_cost,
    query_head_cost,
    query_heads_per_group,
    stem_channel_cost,
)
from tools.pruning.saliency import Saliency
from tools.settings import SpaceSettings

Direction = Literal[-1, 1]


@dataclass(frozen=True)
class _Step:
    """A move to a neighbouring design: which type, in which layers, how much saliency and how many parameters.

    `hidden_size` and `shapes`, one for each of `layers`, are what the step changes them to.
    """

    type: PruningType
    layers: tuple[int, ...]
    hidden_size: int
    shapes: tuple[LayerShape, ...]
    saliency: float
    parameters: int
    kv_cache_bytes_per_token: int = 0

    @property
    def saliency_per_parameter(self) -> float:
        return self.saliency / self.parameters

    def applied_to(self, design: Architecture) -> Architecture:
        layers = list(design.layers)
        for index, shape in zip(self.layers, self.shapes, strict=True):
            layers[index] = shape
        return Architecture(fixed=design.fixed, hidden_size=self.hidden_size, layers=tuple(layers))


_Place = tuple[PruningType, tuple[int, ...]]
"""What a step changes: one type, in these layers."""
_Steps = dict[_Place, _Step | None]
_LayerStep = tuple[LayerShape, float, int, int]
"""One layer's part of a step: its new shape, saliency, parameters, and KV-cache bytes for each token."""


class SaliencyDesigner:
    """Shrinks and grows designs inside one source model by its measured saliency.

    `source` may itself be pruned already: `saliency` is that of its groups, and layers may differ. Only `types` change.
    With `space.attention_unit` "query_head" layers keep their KV groups, so that multi-query models can shrink too, and
    layers with one query head for each key/value head cannot. With "kv_group" it is the other way round.
    """

    def __init__(
        self,
        source: Architecture,
        saliency: Saliency,
        space: SpaceSettings,
        types: Sequence[PruningType] = PRUNING_TYPES,
    ) -> None:
        self._source, self._space = source, space
        self._kept = saliency.kept
        depth = range(len(source.layers))
        self._layer_sets = [tuple(depth)] if space.uniform else [(index,) for index in depth]
        places: list[_Place] = [("stem", ())]
        for layers in self._layer_sets:
            places += [("attention", layers), ("ffn", layers)]
        self._places = [place for place in places if place[0] in types]

    def greedy(self) -> Architecture:
        """EfficientLLM's design: the source shrunk to the budget. Raises InputError where a limit cannot be met."""
        return self.fit(self._source)

    def forecast(self, design: Architecture) -> float:
        """Summed saliency of all groups that `design` cuts from the source: expected rise of the loss, untrained.

        Query heads that are cut from KV groups which stay count by themselves.
        """
        total = float(self._kept.stem[-1] - self._kept.stem[design.hidden_size])
        for index, layer in enumerate(design.layers):
            total += float(self._kept.attention[index][-1, -1] - self._attention_saliency(index, layer))
            total += float(self._kept.ffn[index][-1] - self._kept.ffn[index][layer.intermediate_size])
        return total

    def ffn_saliency(self, layer: int) -> float:
        """Summed saliency of all feed-forward channels of one layer: how much the loss hangs on them."""
        return float(self._kept.ffn[layer][-1])

    def kv_saliency(self, layer: int) -> float:
        """Summed saliency of all KV groups of one layer."""
        return float(self._kept.kv_group[layer][-1])

    def fit(self, design: Architecture) -> Architecture:
        """`design` brought into the band of sizes and the other limits: least salient steps cut, or most salient ones
        given back.

        Where a single step is wider than the band, the result is the nearest one below `max_parameters`; also where
        another limit ends the giving back early.
        """
        return self.grow(self.shrink(design))

    def shrink(self, design: Architecture) -> Architecture:
        """Cut least salient steps until at most `max_parameters` are left and no other limit is broken.

        Steps are ranked by saliency per parameter, and by saliency per byte of weights and KV cache once memory is the
        one limit that is broken still.

        Raises InputError where no legal design keeps the limits.
        """
        size, steps = design.parameters, self._steps(design, -1)
        while True:
            large = size > self._space.max_parameters
            file = None if large else file_excess(design, self._space)
            memory = None if large or file else memory_excess(design, self._space)
            if not (large or file or memory):
                return design
            step = _least(steps.values()) if memory is None else self._least_for_memory(steps.values())
            if step is None:
                raise InputError(_unreachable(size, self._space, file or memory))
            design, size = step.applied_to(design), size - step.parameters
            self._refresh(steps, step, design, -1)

    def grow(self, design: Architecture) -> Architecture:
        """Give back most salient steps while they fit, until at least `min_parameters` are there."""
        size, steps = design.parameters, self._steps(design, +1)
        while size < self._space.min_parameters:
            room = self._space.max_parameters - size
            fitting = [step for step in steps.values() if step is not None and step.parameters <= room]
            fitting.sort(key=lambda step: step.saliency_per_parameter, reverse=True)
            step = next((step for step in fitting if self._within(step.applied_to(design))), None)
            if step is None:
                return design
            design, size = step.applied_to(design), size + step.parameters
            self._refresh(steps, step, design, +1)
        return design

    def least_salient(self, design: Architecture) -> dict[PruningType, float | None]:
        """Saliency per parameter of each type's least salient next step from `design`; None where it cannot shrink.

        These are the curves of the paper's Fig. A0; with `uniform` a step's mean is over all layers.
        """
        steps = list(self._steps(design, -1).values())
        found: dict[PruningType, float | None] = {}
        for name in PRUNING_TYPES:
            step = _least(step for step in steps if step is not None and step.type == name)
            found[name] = None if step is None else step.saliency_per_parameter
        return found

    def next_step(self, design: Architecture) -> Architecture:
        """`design` after one event of the paper: the type whose least salient group is lowest loses one step.

        With `uniform` every layer loses one group at once, otherwise one layer does. The budget plays no part. Raises
        InputError where nothing can shrink any more.
        """
        step = _least(self._steps(design, -1).values())
        if step is None:
            raise InputError(
                f"Nothing is left to prune in a design of {design.parameters:,} parameters: raise max_parameters."
            )
        return step.applied_to(design)

    def _within(self, design: Architecture) -> bool:
        """Whether the design keeps the limits on its file and its memory."""
        return file_excess(design, self._space) is None and memory_excess(design, self._space) is None

    def _least_for_memory(self, steps: Iterable[_Step | None]) -> _Step | None:
        """The step of least saliency per byte of memory that it frees."""
        # The source's mean: what a single step frees in a quantised file may be nothing, or less.
        weight = 1e6 * file_mb(self._source, self._space.file_format) / self._source.parameters
        context = self._space.memory_context
        found = (step for step in steps if step is not None)
        return min(
            found,
            key=lambda step: step.saliency / (weight * step.parameters + context * step.kv_cache_bytes_per_token),
            default=None,
        )

    def _steps(self, design: Architecture, direction: Direction) -> _Steps:
        """Every neighbour that is one step smaller (-1) or larger (+1); None where there is none."""
        return {place: self._step(design, place, direction) for place in self._places}

    def _refresh(self, steps: _Steps, taken: _Step, design: Architecture, direction: Direction) -> None:
        """Make anew what `taken` changed: thousands of single channels would be slow with all of them."""
        for place in steps:
            # A block's costs hang on the hidden size and its own shape, a stem channel's on the shapes of all blocks.
            if taken.type == "stem" or place[0] == "stem" or place[1] == taken.layers:
                steps[place] = self._step(design, place, direction)

    def _step(self, design: Architecture, place: _Place, direction: Direction) -> _Step | None:
        name, layers = place
        if name == "stem":
            return self._stem_step(design, direction)
        one = self._attention_step if name == "attention" else self._ffn_step
        parts = [one(design, index, direction) for index in layers]
        found = [part for part in parts if part is not None]
        if len(found) < len(parts):
            return None
        shapes, saliencies, sizes, caches = zip(*found, strict=True)
        return _Step(name, layers, design.hidden_size, shapes, sum(saliencies), sum(sizes), sum(caches))

    def _stem_step(self, design: Architecture, direction: Direction) -> _Step | None:
        now, largest = design.hidden_size, self._source.hidden_size
        new = _neighbour(now, self._space.hidden_multiple, largest, direction)
        if new is None:
            return None
        saliency = abs(float(self._kept.stem[new] - self._kept.stem[now]))
        return _Step("stem", (), new, (), saliency, abs(new - now) * stem_channel_cost(design).parameters)

    def _ffn_step(self, design: Architecture, layer: int, direction: Direction) -> _LayerStep | None:
        shape, largest = design.layers[layer], self._source.layers[layer].intermediate_size
        now = shape.intermediate_size
        new = _neighbour(now, self._space.ffn_multiple, largest, direction)
        if new is None:
            return None
        saliency = abs(float(self._kept.ffn[layer][new] - self._kept.ffn[layer][now]))
        narrowed = shape.model_copy(update={"intermediate_size": new})
        return narrowed, saliency, abs(new - now) * ffn_channel_cost(design).parameters, 0

    def _attention_step(self, design: Architecture, layer: int, direction: Direction) -> _LayerStep | None:
        shape, largest = design.layers[layer], self._source.layers[layer]
        if self._space.attention_unit == "kv_group":
            groups = shape.num_key_value_heads + direction
            if not 1 <= groups <= largest.num_key_value_heads:
                return None
            new, cost = with_kv_groups(shape, groups), kv_group_cost(design, layer)
        else:
            per_group = query_heads_per_group(shape) + direction
            if not 1 <= per_group <= query_heads_per_group(largest):
                return None
            new, cost = with_query_heads_per_group(shape, per_group), query_head_cost(design, layer)
        saliency = abs(self._attention_saliency(layer, new) - self._attention_saliency(layer, shape))
        return new, saliency, cost.parameters, cost.kv_cache_bytes_per_token

    def _attention_saliency(self, layer: int, shape: LayerShape) -> float:
        """Summed saliency of what `shape` keeps of the attention of one layer."""
        return float(self._kept.attention[layer][shape.num_key_value_heads, query_heads_per_group(shape)])


def with_kv_groups(shape: LayerShape, groups: int) -> LayerShape:
    """The same layer with another number of KV groups, each with as many query heads as before."""
    return LayerShape(
        num_attention_heads=groups * query_heads_per_group(shape),
        num_key_value_heads=groups,
        intermediate_size=shape.intermediate_size,
    )


def with_query_heads_per_group(shape: LayerShape, count: int) -> LayerShape:
    """The same layer with another number of query heads in each of its KV groups."""
    return shape.model_copy(update={"num_attention_heads": count * shape.num_key_value_heads})


def narrower(width: int, multiple: int) -> int | None:
    """The next lower multiple; None where none is left."""
    return (width - 1) // multiple * multiple or None


def wider(width: int, multiple: int, largest: int) -> int | None:
    """The next higher multiple, at most `largest`, which need be none; None where `width` has reached it."""
    return min((width // multiple + 1) * multiple, largest) if width < largest else None


def _neighbour(width: int, multiple: int, largest: int, direction: Direction) -> int | None:
    return narrower(width, multiple) if direction < 0 else wider(width, multiple, largest)


def _unreachable(size: int, space: SpaceSettings, excess: Excess | None) -> str:
    """That the smallest legal design, of `size` parameters, breaks a limit: the parameters' where no other is named."""
    if excess is None:
        return (
            f"The smallest legal design has {size:,} parameters, more than the budget of "
            f"{space.max_parameters:,}: raise max_parameters or take a smaller source."
        )
    return f"The smallest legal design takes {excess}: raise {excess.limit} or take a smaller source."


def _least(steps: Iterable[_Step | None]) -> _Step | None:
    found = (step for step in steps if step is not None)
    return min(found, key=lambda step: step.saliency_per_parameter, default=None)
