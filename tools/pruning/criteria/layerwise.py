"""Choosing layer after layer: each layer is judged by the inputs that it gets behind the cuts of those before it.

As Wanda-sp does in the code of FLAP, and SparseGPT for single weights. The model stays as wide as it was; what a layer
loses is zero in its reader from then on, which gives the logits of the cut model.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from tools.architecture import Architecture, LayerShape
from tools.pruning.blocks import blocks
from tools.pruning.criteria.contract import LayerwiseCriterion
from tools.pruning.criteria.evidence import Calibration, Report
from tools.pruning.criteria.group_values import GroupValues
from tools.pruning.saliency import Saliency
from tools.pruning.second_order import repair
from tools.pruning.selection import CutPlan, Indices, head_channels, plan_cut


@torch.no_grad()
def choose_layer_after_layer(
    model: PreTrainedModel,
    source: Architecture,
    design: Architecture,
    criterion: LayerwiseCriterion,
    calibration: Calibration,
    damping: float | None,
    report: Report,
) -> Saliency:
    """Take from every layer of `model` what `design` leaves out of `source`; attention first, then the FFN behind it.

    With a `damping` every reader is repaired when it loses inputs (`second_order.repair`). Returns the saliency that
    decided, to cut by; that of the stem is all ones.
    """
    walk = _Walk(model, calibration)
    layers: list[LayerShape] = list(source.layers)
    # Places that were not judged yet count as equal; their widths are still the source's.
    scores = GroupValues(
        kv_group=[torch.ones(shape.num_key_value_heads) for shape in layers],
        query_head=[torch.ones(shape.num_attention_heads) for shape in layers],
        ffn=[torch.ones(shape.intermediate_size) for shape in layers],
        stem=torch.ones(source.hidden_size),
    )
    kv_groups, query_heads, ffn = list(scores.kv_group), list(scores.query_head), list(scores.ffn)

    def remove(index: int, statistics: dict[str, torch.Tensor], shape: LayerShape) -> None:
        alone = [*source.layers]
        alone[index] = shape
        saliency = GroupValues(kv_groups, query_heads, ffn, scores.stem).saliency()
        plan = plan_cut(source, source.with_layers(alone), saliency)
        if damping is not None:
            repair(model, plan, statistics, damping)
        _clear(model, index, plan)

    for index, (block, old, new) in enumerate(zip(blocks(model), source.layers, design.layers, strict=True)):
        heads = {"num_attention_heads": new.num_attention_heads, "num_key_value_heads": new.num_key_value_heads}
        if old.model_copy(update=heads) != old:
            statistics = walk.moments(index, block.o_proj, f"output.{index}")
            kv_groups[index], query_heads[index] = criterion.attention(index, statistics)
            remove(index, statistics, old.model_copy(update=heads))
        if new.intermediate_size != old.intermediate_size:
            statistics = walk.moments(index, block.down_proj, f"down.{index}")
            ffn[index] = criterion.ffn(index, statistics)
            remove(index, statistics, old.model_copy(update={"intermediate_size": new.intermediate_size}))
        walk.go_behind(index)
        report("cutting layer after layer", index + 1, len(design.layers))
    return GroupValues(kv_groups, query_heads, ffn, scores.stem).saliency()


class _Walk:
    """Hidden states of all micro-batches before one layer, which move on from layer to layer."""

    def __init__(self, model: PreTrainedModel, calibration: Calibration) -> None:
        self._layers = cast(Sequence[nn.Module], model.get_submodule("model.layers"))
        self._autocast = calibration.autocast
        self._states: list[torch.Tensor] = []
        # Masks and positions, which the model makes once for all layers of a kind.
        self._beside: list[list[dict[str, Any]]] = []
        for input_ids in calibration.micro_batches:
            self._begin(model, input_ids)

    def moments(self, index: int, linear: nn.Linear, name: str) -> dict[str, torch.Tensor]:
        """Second moments of the inputs of `linear` in layer `index`, under `name`, and the number of tokens."""
        totals: list[torch.Tensor] = []

        def record(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            inputs_ti = inputs[0].flatten(0, -2).float()
            with torch.autocast(inputs_ti.device.type, enabled=False):
                fresh = inputs_ti.T @ inputs_ti
            totals[:] = [fresh + totals[0]] if totals else [fresh]

        handle = linear.register_forward_pre_hook(record)
        try:
            self._run(index)
        finally:
            handle.remove()
        tokens = sum(states.shape[0] * states.shape[1] for states in self._states)
        return {name: totals[0] / tokens, "tokens": torch.tensor([float(tokens)])}

    def go_behind(self, index: int) -> None:
        """Move the states behind layer `index`, as it now is."""
        self._states = self._run(index)

    def _begin(self, model: PreTrainedModel, input_ids: torch.Tensor) -> None:
        beside: list[dict[str, Any]] = []

        def record(_: nn.Module, inputs: tuple[torch.Tensor, ...], named: dict[str, Any]) -> None:
            if not beside:
                self._states.append(inputs[0])
            beside.append(named)

        handles = [layer.register_forward_pre_hook(record, with_kwargs=True) for layer in self._layers]
        try:
            with self._autocast():
                model.get_submodule("model")(input_ids=input_ids, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        self._beside.append(beside)

    def _run(self, index: int) -> list[torch.Tensor]:
        with self._autocast():
            return [
                self._layers[index](states, **beside[index])
                for states, beside in zip(self._states, self._beside, strict=True)
            ]


def _clear(model: nn.Module, index: int, plan: CutPlan) -> None:
    """Zero what `plan` removes from the readers of layer `index`."""
    block = blocks(model)[index]
    for linear, keep in (
        (block.o_proj, head_channels(plan.query_heads[index], block.head_dim)),
        (block.down_proj, plan.ffn[index]),
    ):
        linear.weight.mul_(_mask(linear, keep))


def _mask(linear: nn.Linear, keep: Indices) -> torch.Tensor:
    mask = torch.zeros(linear.in_features, device=linear.weight.device, dtype=linear.weight.dtype)
    mask[torch.as_tensor(keep, device=mask.device)] = 1.0
    return mask
