"""Parameters, multiply-accumulates and cache bytes of any causal language model, from its shapes alone."""

from pathlib import Path
from typing import Any

from tools.architecture import Architecture
from tools.evaluation.edge_figures import Counts


def counts_of_design(design: Architecture, padded: Architecture, context_length: int) -> Counts:
    """The counts of `design`, which a file holds as `padded`."""
    return Counts(
        parameters=design.parameters,
        parameters_without_embeddings=design.parameters - design.embedding_parameters,
        padded_parameters=padded.parameters,
        macs_per_token=design.macs_per_token(context_length),
        context_length=context_length,
        kv_cache_bytes_per_token=design.kv_cache_bytes_per_token(),
    )


def counts_of_any(path: Path, context_length: int) -> Counts:
    """The counts of the model in the directory `path`, of whatever family transformers knows.

    The model is built without memory; its matrix products are counted while it takes one token after the others.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoConfig, AutoModelForCausalLM

    from tools.quiet import quiet_transformers

    with quiet_transformers(), torch.device("meta"), torch.no_grad():
        config = AutoConfig.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
        model = AutoModelForCausalLM.from_config(config).eval()
        before = torch.zeros(1, context_length - 1, dtype=torch.long)
        cache: Any = model(input_ids=before, use_cache=True).past_key_values if context_length > 1 else None
        with FlopCounterMode(display=False) as counter:
            model(input_ids=torch.zeros(1, 1, dtype=torch.long), past_key_values=cache, use_cache=True)
        # One token alone, so that layers that keep only a window of the text are counted in full.
        single = model(input_ids=torch.zeros(1, 1, dtype=torch.long), use_cache=True).past_key_values
    embeddings = {id(module.weight): module.weight for module in _embeddings(model)}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Counts(
        parameters=parameters,
        parameters_without_embeddings=parameters - sum(weight.numel() for weight in embeddings.values()),
        padded_parameters=parameters,
        macs_per_token=counter.get_total_flops() // 2,
        context_length=context_length,
        kv_cache_bytes_per_token=sum(2 * (layer.keys.numel() + layer.values.numel()) for layer in single.layers),
    )


def _embeddings(model: Any) -> list[Any]:
    found = [model.get_input_embeddings(), model.get_output_embeddings()]
    return [module for module in found if module is not None]
