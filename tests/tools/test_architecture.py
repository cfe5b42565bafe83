"""Costs of a design against a real model of its shape, and its identity."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from tools.architecture import Architecture
from tools.families import architecture_from_config
from tools.sources import load_model


@pytest.mark.parametrize("family", ["llama-tied", "llama-untied", "mistral", "qwen2", "qwen3"])
def test_costs_are_those_of_the_real_model(sources: dict[str, Path], family: str) -> None:
    model = load_model(sources[family])
    design = architecture_from_config(model.config)
    assert design.parameters == sum(parameter.numel() for parameter in model.parameters())
    blocks = sum(design.layer_parameters(index) for index in range(len(design.layers)))
    # Two norms a layer are in its parameters; QK-norm gains too.
    assert design.parameters == design.embedding_parameters + blocks + design.hidden_size
    # Every linear layer multiplies each of its weights once for a token; the embedding is a look-up.
    linear = sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))
    assert design.macs_per_token() == linear
    heads = sum(layer.num_attention_heads for layer in design.layers)
    # Scores and weighted values: two products of head_dim for each earlier token, head and layer.
    assert design.macs_per_token(10) - linear == 2 * 10 * heads * design.fixed.head_dim
    cached = sum(2 * layer.num_key_value_heads * design.fixed.head_dim for layer in design.layers)
    assert design.kv_cache_bytes_per_token(bytes_per_value=2) == 2 * cached


def test_the_hash_is_the_same_in_every_process(sources: dict[str, Path]) -> None:
    design = architecture_from_config(load_model(sources["qwen2"]).config)
    program = (
        "import sys; from tools.architecture import Architecture as A; print(A.model_validate_json(sys.argv[1]).hash)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, design.model_dump_json()], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == design.hash == Architecture.model_validate_json(design.model_dump_json()).hash


def test_long_designs_are_told_in_ranges(sources: dict[str, Path]) -> None:
    design = architecture_from_config(load_model(sources["llama-tied"]).config)
    widths = [layer.model_copy(update={"intermediate_size": 8 * (5 + i)}) for i, layer in enumerate(design.layers)]
    varied = design.with_layers(widths)
    assert varied.describe(most_runs=1) == "hidden 64; layers 0-2: kv_heads 4, ffn 40-56"
    assert varied.describe().count("layer ") == 3
