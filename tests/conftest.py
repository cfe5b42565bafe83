"""Tiny random models of every family on disk, with a real byte-level tokenizer, and a cut made by hand."""

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tests.chroma_server import chroma_server
from tests.postgresql import postgresql
from tools.architecture import Architecture, LayerShape
from tools.quiet import quiet_transformers

__all__ = ["chroma_server", "postgresql"]

# Nothing here asserts on speed, and a busy machine is no failure; the rest is as hypothesis has it for this place.
settings.register_profile("untimed", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Threads cost more than they give at these sizes, most of all where the cores are shared.
torch.set_num_threads(1)
if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes that tests start share the cores with the other worker's.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the class of a contract's tests calls `seldom` is slow, before slow ones are left out."""
    for item in items:
        if isinstance(item, pytest.Function) and item.originalname in getattr(item.cls, "seldom", ()):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """What was imported until now stays, and is millions of objects: a tenth of the time went into looking at them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


# Some ways to start pytest name a width, and tables are then cut to it.
os.environ.pop("COLUMNS", None)

TEXT = "The quick brown fox jumps over the lazy dog. A cut model and the same model masked give the same logits. "

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "vocab_size": 320,
    "max_position_embeddings": 256,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
    "eos_token_id": 0,
    "bos_token_id": 0,
}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama-tied": {"model_type": "llama", "tie_word_embeddings": True},
    "llama-untied": {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 2},
    "llama-mqa": {"model_type": "llama", "num_key_value_heads": 1, "tie_word_embeddings": True},
    "llama-biases": {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "mistral": {"model_type": "mistral", "sliding_window": 4, "tie_word_embeddings": False},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", "tie_word_embeddings": False},
    "qwen3-biases": {"model_type": "qwen3", "attention_bias": True, "tie_word_embeddings": True},
}


@pytest.fixture(scope="session")
def tokenizer_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE tokenizer with 300 tokens, trained on the text above."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    directory = tmp_path_factory.mktemp("tokenizer")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **dict.fromkeys(("bos_token", "eos_token"), "<|end|>"))
    fast.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    fast.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory, tokenizer_directory: Path) -> dict[str, Path]:
    """A directory with weights and tokenizer for each key of FAMILIES."""
    root = tmp_path_factory.mktemp("sources")
    for name, values in FAMILIES.items():
        values = SIZES | values
        config = CONFIG_MAPPING[values["model_type"]].from_dict(values)
        torch.manual_seed(7)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.15 + (parameter.ndim == 1) * 0.5)
        with quiet_transformers():
            model.save_pretrained(root / name)
        for file in tokenizer_directory.iterdir():
            (root / name / file.name).write_bytes(file.read_bytes())
    return {name: root / name for name in FAMILIES}


@pytest.fixture(scope="session")
def cut_by_hand() -> Callable[[PreTrainedModel, Architecture, Architecture], None]:
    """Makes a live model as small as a design by keeping the first groups, heads, channels."""
    return _cut_by_hand


def _cut_by_hand(model: PreTrainedModel, old: Architecture, new: Architecture) -> None:
    dim, stem = old.fixed.head_dim, torch.arange(new.hidden_size)

    def keep(module: Any, rows: torch.Tensor | None, columns: torch.Tensor | None) -> None:
        for parameter in (
            (module.weight, module.bias) if getattr(module, "bias", None) is not None else (module.weight,)
        ):
            if rows is not None:
                parameter.data = parameter.data[rows].clone()
        if columns is not None:
            module.weight.data = module.weight.data[:, columns].clone()
        if isinstance(module, torch.nn.Linear):
            module.out_features, module.in_features = module.weight.shape

    layers: Any = model.get_submodule("model.layers")
    for block, before, after in zip(layers, old.layers, new.layers, strict=True):
        attention, mlp = block.self_attn, block.mlp
        queries, keys, ffn = _kept(before, after, dim)
        keep(attention.q_proj, queries, stem)
        keep(attention.k_proj, keys, stem)
        keep(attention.v_proj, keys, stem)
        keep(attention.o_proj, stem, queries)
        keep(mlp.gate_proj, ffn, stem)
        keep(mlp.up_proj, ffn, stem)
        keep(mlp.down_proj, stem, ffn)
        keep(block.input_layernorm, stem, None)
        keep(block.post_attention_layernorm, stem, None)
        attention.num_key_value_groups = after.num_attention_heads // after.num_key_value_heads
    keep(model.get_submodule("model.norm"), stem, None)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = embedding.weight is head.weight
    keep(embedding, None, stem)
    if not tied:
        keep(head, None, stem)
    model.config.hidden_size = new.hidden_size


def _kept(before: LayerShape, after: LayerShape, dim: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    old_ratio = before.num_attention_heads // before.num_key_value_heads
    new_ratio = after.num_attention_heads // after.num_key_value_heads
    heads = [group * old_ratio + member for group in range(after.num_key_value_heads) for member in range(new_ratio)]
    queries = torch.cat([torch.arange(head * dim, (head + 1) * dim) for head in heads])
    return queries, torch.arange(after.num_key_value_heads * dim), torch.arange(after.intermediate_size)
