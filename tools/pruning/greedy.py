"""EfficientLLM's own design: the least salient groups go first until the budget is met; and the forecast it implies.

All three pruning types are ranked on one scale, saliency per parameter freed (arXiv 2502.06663, Fig. 2 and A0). Widths
move in steps (`ffn_multiple` channels, one KV group, `hidden_multiple` stem channels), so a step's saliency is the sum
over its groups. The same ranking, run backwards, grows a design that is below the smallest allowed size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tools.architecture import Architecture, LayerShape
from tools.errors import InputError
from tools.pruning.groups import (
    PRUNING_TYPES,
    PruningType,
    ffn_channel_parameters,
    kv_group_parameters,
    stem_channel_parameters,
)
from tools.pruning.saliency import Array, Saliency
from tools.settings import SpaceSettings


@dataclass(frozen=True)
class _Step:
    """A move to a neighbouring design: which type, in which layers, how much saliency and how many parameters."""

    type: PruningType
    layers: tuple[int, ...]
    saliency: float
    parameters: int

    @property
    def saliency_per_parameter(self) -> float:
        return self.saliency / self.parameters


class SaliencyDesigner:
    """Shrinks and grows designs inside one source model by its measured saliency."""

    def __init__(
        self,
        source: Architecture,
        saliency: Saliency,
        space: SpaceSettings,
        types: Sequence[PruningType] = PRUNING_TYPES,
    ) -> None:
        self._source, self._space, self._types = source, space, types
        self._kv = [_cumulative(values) for values in saliency.kv_group]
        self._ffn = [_cumulative(values) for values in saliency.ffn]
        self._stem = _cumulative(saliency.stem)
        depth = range(len(source.layers))
        self._layer_sets = [tuple(depth)] if space.uniform else [(index,) for index in depth]

    def greedy(self) -> Architecture:
        """EfficientLLM's design: the source shrunk to the budget. Raises InputError where the budget cannot be met."""
        return self.fit(self._source)

    def forecast(self, design: Architecture) -> float:
        """Summed saliency of all groups that `design` cuts from the source: expected rise of the loss, untrained."""
        total = float(self._stem[-1] - self._stem[design.hidden_size])
        for index, layer in enumerate(design.layers):
            total += float(self._kv[index][-1] - self._kv[index][layer.num_key_value_heads])
            total += float(self._ffn[index][-1] - self._ffn[index][layer.intermediate_size])
        return total

    def ffn_saliency(self, layer: int) -> float:
        """Summed saliency of all feed-forward channels of one layer: how much the loss hangs on them."""
        return float(self._ffn[layer][-1])

    def kv_saliency(self, layer: int) -> float:
        """Summed saliency of all KV groups of one layer."""
        return float(self._kv[layer][-1])

    def fit(self, design: Architecture) -> Architecture:
        """`design` brought into the band of sizes: least salient steps cut, or most salient ones given back.

        Where a single step is wider than the band, the result is the nearest one below `max_parameters`.
        """
        return self.grow(self.shrink(design))

    def shrink(self, design: Architecture) -> Architecture:
        """Cut least salient steps until at most `max_parameters` are left."""
        while design.parameters > self._space.max_parameters:
            steps = [step for step in self._steps(design, -1) if step.type in self._types]
            if not steps:
                raise InputError(
                    f"The smallest legal design has {design.parameters:,} parameters, more than the budget of "
                    f"{self._space.max_parameters:,}: raise max_parameters or take a smaller source."
                )
            design = self._apply(design, min(steps, key=lambda step: step.saliency_per_parameter), -1)
        return design

    def grow(self, design: Architecture) -> Architecture:
        """Give back most salient steps while they fit, until at least `min_parameters` are there."""
        while (size := design.parameters) < self._space.min_parameters:
            room = self._space.max_parameters - size
            steps = [step for step in self._steps(design, +1) if step.type in self._types and step.parameters <= room]
            if not steps:
                return design
            design = self._apply(design, max(steps, key=lambda step: step.saliency_per_parameter), +1)
        return design

    def _steps(self, design: Architecture, direction: int) -> Iterator[_Step]:
        """Every neighbour that is one step smaller (-1) or larger (+1)."""
        multiple = self._space.hidden_multiple
        hidden = design.hidden_size + direction * multiple
        if multiple <= hidden <= self._source.hidden_size:
            saliency = abs(float(self._stem[hidden] - self._stem[design.hidden_size]))
            yield _Step("stem", (), saliency, multiple * stem_channel_parameters(design))
        ffn_step = self._space.ffn_multiple * ffn_channel_parameters(design)
        for layers in self._layer_sets:
            kv = [self._kv_saliency_of_step(design, index, direction) for index in layers]
            if None not in kv:
                size = sum(kv_group_parameters(design, index) for index in layers)
                yield _Step("attention", layers, sum(value for value in kv if value is not None), size)
            ffn = [self._ffn_saliency_of_step(design, index, direction) for index in layers]
            if None not in ffn:
                saliency = sum(value for value in ffn if value is not None)
                yield _Step("ffn", layers, saliency, ffn_step * len(layers))

    def _kv_saliency_of_step(self, design: Architecture, layer: int, direction: int) -> float | None:
        now = design.layers[layer].num_key_value_heads
        new = now + direction
        if not 1 <= new <= self._source.layers[layer].num_key_value_heads:
            return None
        return abs(float(self._kv[layer][new] - self._kv[layer][now]))

    def _ffn_saliency_of_step(self, design: Architecture, layer: int, direction: int) -> float | None:
        now = design.layers[layer].intermediate_size
        new = now + direction * self._space.ffn_multiple
        if not self._space.ffn_multiple <= new <= self._source.layers[layer].intermediate_size:
            return None
        return abs(float(self._ffn[layer][new] - self._ffn[layer][now]))

    def _apply(self, design: Architecture, step: _Step, direction: int) -> Architecture:
        if step.type == "stem":
            hidden = design.hidden_size + direction * self._space.hidden_multiple
            return Architecture(fixed=design.fixed, hidden_size=hidden, layers=design.layers)
        layers = list(design.layers)
        for index in step.layers:
            shape = layers[index]
            if step.type == "ffn":
                width = shape.intermediate_size + direction * self._space.ffn_multiple
                layers[index] = shape.model_copy(update={"intermediate_size": width})
            else:
                layers[index] = with_kv_groups(shape, shape.num_key_value_heads + direction)
        return design.with_layers(layers)


def with_kv_groups(shape: LayerShape, groups: int) -> LayerShape:
    """The same layer with another number of KV groups, each with as many query heads as before."""
    ratio = shape.num_attention_heads // shape.num_key_value_heads
    return LayerShape(
        num_attention_heads=groups * ratio, num_key_value_heads=groups, intermediate_size=shape.intermediate_size
    )


def _cumulative(values: Array) -> npt.NDArray[np.float64]:
    """Entry k is the saliency of the k most salient groups."""
    return np.concatenate([[0.0], np.cumsum(np.sort(values.astype(np.float64))[::-1])])
