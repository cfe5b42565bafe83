"""Compiled blocks in a model that shrinks: all of them run compiled, the compilations are few and counted."""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from tools.families import architecture_from_config
from tools.pruning.alive import everything
from tools.pruning.blocks import blocks
from tools.pruning.compilation import VARIANTS, BlockCompiler, compiled_with_its_block
from tools.pruning.masking import mask
from tools.pruning.surgery import cut
from tools.sources import load_model


class Watched:
    """A backend that runs a graph as it is, and counts how often compiled blocks are run."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        def run(*arguments: torch.Tensor) -> Any:
            self.runs += 1
            return graph.forward(*arguments)

        return run


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What one test compiles is not there for the next; the process's own settings come back."""
    torch._dynamo.reset()
    config = torch._dynamo.config
    names = (
        "accumulated_recompile_limit",
        "skip_fwd_side_effects_in_bwd_under_checkpoint",
        "skip_nnmodule_hook_guards",
    )
    with config.patch({name: getattr(config, name) for name in names}):
        yield
    torch._dynamo.reset()


def tiny_model(layers: int) -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).train()


def some_tokens(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 61, (2, 12), generator=torch.Generator().manual_seed(seed))


def step(model: PreTrainedModel, optimizer: torch.optim.Optimizer, tokens: torch.Tensor) -> float:
    loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def cut_a_little(model: PreTrainedModel, optimizer: torch.optim.Optimizer, layers: list[int]) -> None:
    """Take one FFN channel from each of some layers."""
    widths = [block.down_proj.in_features - (index in layers) for index, block in enumerate(blocks(model))]
    plan = dataclasses.replace(
        everything(architecture_from_config(model.config)), ffn=tuple(np.arange(width) for width in widths)
    )
    cut(model, plan, [optimizer])


def test_after_seven_cuts_every_block_still_runs_compiled() -> None:
    """Fourteen graphs are more than torch's own limit of eight, after which it goes on eagerly."""
    model, backend = tiny_model(layers=3), Watched()
    reference = copy.deepcopy(model)
    compiler = BlockCompiler(model, backend)
    optimizers = [torch.optim.AdamW(each.parameters(), lr=1e-2) for each in (model, reference)]
    expected = 0
    for number in range(8):
        for each, optimizer in zip((model, reference), optimizers, strict=True):
            if number > 0:
                # All layers, then the first alone, so that the shapes drift apart.
                cut_a_little(each, optimizer, [0, 1, 2] if number % 2 else [0])
        if number > 0:
            compiler.after_cut()
        for seed in range(2):
            runs = backend.runs
            loss = step(model, optimizers[0], some_tokens(seed))
            assert backend.runs - runs == 3, "every block ran compiled"
            assert loss == step(reference, optimizers[1], some_tokens(seed))
        assert compiler.distinct_shapes == (1 if number < 2 else 2)
        assert compiler.compilations_since_cut == compiler.distinct_shapes
        expected += compiler.distinct_shapes
    assert compiler.compilations == expected > 8


def test_without_after_cut_blocks_are_compiled_all_the_same() -> None:
    model, backend = tiny_model(layers=1), Watched()
    compiler = BlockCompiler(model, backend)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for number in range(3):
        step(model, optimizer, some_tokens())
        assert compiler.compilations == backend.runs == number + 1
        cut_a_little(model, optimizer, [0])


@pytest.mark.parametrize("family", ["llama-biases", "qwen3"])
def test_compiled_training_is_uncompiled_training(sources: dict[str, Path], family: str) -> None:
    """Also backward passes that were compiled with the forward pass, over the gradients of a masked query head."""
    losses = []
    for compiled in (False, True):
        model = load_model(sources[family]).train()
        model.requires_grad_(True)
        compiler = BlockCompiler(model, "aot_eager") if compiled else None
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        tokens = torch.randint(0, 300, (2, 16), generator=torch.Generator().manual_seed(0))
        whole = everything(architecture_from_config(model.config))
        plan = dataclasses.replace(whole, query_heads=(np.array([0, 2, 4, 6]),) * 3)
        losses.append([step(model, optimizer, tokens)])
        mask(model, plan, [optimizer])
        losses[-1] += [step(model, optimizer, tokens) for _ in range(2)]
        dead = blocks(model)[0].o_proj.weight[:, 16:32]
        assert torch.count_nonzero(dead) == 0
        if compiler is not None:
            assert compiler.compilations == 1, "a mask changes no shape"
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=1e-6)


def test_names_and_copies_know_nothing_of_it(tmp_path: Path) -> None:
    model = tiny_model(layers=2)
    names, parameters = list(model.state_dict()), dict(model.named_parameters())
    compiler = BlockCompiler(model, Watched())
    model(input_ids=some_tokens())
    assert list(model.state_dict()) == names
    assert all(parameters[name] is parameter for name, parameter in model.named_parameters())
    copied = copy.deepcopy(model)
    compilations = compiler.compilations
    copied(input_ids=some_tokens(), use_cache=False)
    compiler.remove()
    generated = model.generate(some_tokens(), max_new_tokens=3, do_sample=False)
    assert generated.shape == (2, 15)
    assert compiler.compilations == compilations


def test_what_breaks_the_graph_is_an_error() -> None:
    model = tiny_model(layers=1)
    BlockCompiler(model, "eager")

    @compiled_with_its_block
    def breaks(*_: object) -> None:
        torch._dynamo.graph_break()

    blocks(model)[0].down_proj.register_forward_hook(breaks)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        model(input_ids=some_tokens(), use_cache=False)


def test_compiling_again_and_again_is_an_error() -> None:
    """A hook that counts in a Python number calls for a new graph with each step."""
    model = tiny_model(layers=1)
    compiler = BlockCompiler(model, "eager")
    seen = {"tokens": 0.0}

    @compiled_with_its_block
    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen["tokens"] += inputs[0].shape[1]

    blocks(model)[0].down_proj.register_forward_pre_hook(count)
    with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        for _ in range(2 * VARIANTS):
            model(input_ids=some_tokens(), use_cache=False)
    assert compiler.compilations == VARIANTS


class Recorder:
    """Sums up the inputs of a module, in tensors alone."""

    def __init__(self, width: int) -> None:
        self.total = torch.zeros(width)

    @compiled_with_its_block
    @torch.no_grad()
    def record(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self.total += inputs[0].detach().flatten(0, -2).sum(0)


def test_hooks_are_heard_from_when_they_come_until_they_go() -> None:
    """One recorder for each layer and one more, of which no other layer knows; layers still share their graphs."""
    model, backend = tiny_model(layers=3), Watched()
    reference = copy.deepcopy(model)
    cut_a_little(model, torch.optim.SGD(model.parameters()), [1])
    cut_a_little(reference, torch.optim.SGD(reference.parameters()), [1])
    compiler = BlockCompiler(model, backend)
    totals = []
    for each in (model, reference):
        recorders = [Recorder(block.down_proj.in_features) for block in (*blocks(each), blocks(each)[0])]
        for moment in range(6):
            if moment in (1, 3):
                first = 0 if moment == 1 else 3
                handles = [
                    block.down_proj.register_forward_pre_hook(recorder.record)
                    for block, recorder in zip(blocks(each), recorders[first:], strict=False)
                ]
            elif moment in (2, 5):
                for handle in handles:
                    handle.remove()
            each(input_ids=some_tokens(moment), use_cache=False)
        totals.append([recorder.total for recorder in recorders])
    for compiled, expected in zip(*totals, strict=True):
        torch.testing.assert_close(compiled, expected)
        assert expected.abs().sum() > 0
    assert backend.runs == 6 * 3 and compiler.uncompiled_runs == 0
    assert compiler.compilations == 2 * compiler.distinct_shapes, "each shape with and without hooks"


def test_blocks_with_other_hooks_run_uncompiled_and_are_counted() -> None:
    model, backend = tiny_model(layers=2), Watched()
    compiler = BlockCompiler(model, backend)
    seen: list[int] = []
    handle = blocks(model)[1].down_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    for _ in range(2):
        model(input_ids=some_tokens(), use_cache=False)
    assert (len(seen), backend.runs, compiler.uncompiled_runs) == (2, 2, 2)
    handle.remove()
    model(input_ids=some_tokens(), use_cache=False)
    assert (len(seen), backend.runs, compiler.uncompiled_runs) == (2, 4, 2)
    assert compiler.compilations == 1


def test_recording_hooks_run_once_where_activations_are_recomputed() -> None:
    tokens = some_tokens()

    def recorded(recompute: bool) -> torch.Tensor:
        model, recorder = tiny_model(layers=2), Recorder(40)
        for block in blocks(model):
            block.down_proj.register_forward_pre_hook(recorder.record)
        if recompute:
            model.activation_checkpointing_enable({"use_reentrant": False})
            BlockCompiler(model, "aot_eager")
        model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
        return recorder.total

    torch.testing.assert_close(recorded(recompute=True), recorded(recompute=False))
