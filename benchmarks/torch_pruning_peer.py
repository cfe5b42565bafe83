"""The package torch-pruning (VainF, arXiv 2301.12900) run live as a peer: `pip install -e '.[peers]'`.

Its own dependency graph, group Taylor importance and pruner; only what may be cut is said from outside. Attention is
left whole, as the package keeps key/value heads and prunes query heads alone, and so is the stem.
"""

import math

import torch
from transformers import PreTrainedModel

from tools.architecture import Architecture
from tools.errors import InputError
from tools.pruning.blocks import blocks
from tools.pruning.criteria.evidence import Calibration
from tools.pruning.groups import ffn_channel_parameters


def prune_ffn(
    model: PreTrainedModel, source: Architecture, target_parameters: int, calibration: Calibration
) -> Architecture:
    """Cut FFN channels of all layers, ranked together, to at most `target_parameters`; returns what the model now is.

    Raises InputError where the package is not installed or the target needs more than FFN channels.
    """
    try:
        import torch_pruning
    except ImportError as error:
        raise InputError("This row needs the package torch-pruning: pip install torch-pruning.") from error
    channels = math.ceil((source.parameters - target_parameters) / ffn_channel_parameters(source))
    total = sum(layer.intermediate_size for layer in source.layers)
    if channels >= total:
        raise InputError(f"{target_parameters:,} parameters cannot be reached by FFN channels alone.")
    model.zero_grad(set_to_none=True)
    for input_ids in calibration.micro_batches:
        with calibration.autocast():
            loss = model(input_ids=input_ids, labels=input_ids, use_cache=False).loss
        loss.backward()
    roots = {id(linear) for block in blocks(model) for linear in (block.gate_proj, block.up_proj)}
    linears = [module for module in model.modules() if isinstance(module, (torch.nn.Linear, torch.nn.Embedding))]
    pruner = torch_pruning.pruner.BasePruner(
        model,
        example_inputs={"input_ids": calibration.micro_batches[0][:, :8], "use_cache": False},
        importance=torch_pruning.importance.GroupTaylorImportance(),
        global_pruning=True,
        # Its threshold may leave a channel too many where importances are equal.
        pruning_ratio=(channels + 8) / total,
        max_pruning_ratio=0.95,
        ignored_layers=[module for module in linears if id(module) not in roots],
        output_transform=lambda output: output.logits.sum(),
    )
    pruner.step()
    model.zero_grad(set_to_none=True)
    shapes = [
        layer.model_copy(update={"intermediate_size": block.down_proj.in_features})
        for layer, block in zip(source.layers, blocks(model), strict=True)
    ]
    design = source.with_layers(shapes)
    if design.parameters > target_parameters:
        raise RuntimeError(f"torch-pruning left {design.parameters:,} parameters, above {target_parameters:,}")
    return design
