"""Continuous dropping: the schedule arrives exactly, and the running statistics follow the model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tools.architecture import Architecture, FixedShape, LayerShape
from tools.errors import InputError
from tools.families import architecture_from_config
from tools.pretraining.compute import Compute
from tools.pretraining.growth import Growth
from tools.pretraining.trainer import Trainer
from tools.pruning.input_statistics import InputStatistics
from tools.pruning.saliency_meter import SaliencyMeter
from tools.pruning.schedule import DropSchedule
from tools.settings import Recipe
from tools.sources import load_model

FIXED = FixedShape(model_type="llama", vocab_size=100, head_dim=8, tie_word_embeddings=True)


@given(
    ffn=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    groups=st.integers(1, 4),
    hidden=st.integers(8, 64),
    events=st.integers(1, 12),
    spare=st.integers(0, 40),
)
def test_the_schedule_arrives_exactly_and_only_shrinks(
    ffn: tuple[int, int], groups: int, hidden: int, events: int, spare: int
) -> None:
    source = Architecture(
        fixed=FIXED,
        hidden_size=64,
        layers=(LayerShape(num_attention_heads=8, num_key_value_heads=4, intermediate_size=64),) * 2,
    )
    target = Architecture(
        fixed=FIXED,
        hidden_size=hidden,
        layers=tuple(
            LayerShape(num_attention_heads=groups, num_key_value_heads=groups, intermediate_size=width) for width in ffn
        ),
    )
    schedule = DropSchedule(source, target, events, events + spare)
    due = [schedule.event_after(step) for step in range(events + spare + 1)]
    assert [event for event in due if event is not None] == list(range(1, events + 1)) and due[0] == 1
    sizes = [source.parameters, *(schedule.design(event).parameters for event in range(1, events + 1))]
    assert sizes == sorted(sizes, reverse=True)
    assert schedule.design(events) == target


def test_more_cuts_than_steps_are_refused() -> None:
    source = Architecture(
        fixed=FIXED,
        hidden_size=64,
        layers=(LayerShape(num_attention_heads=8, num_key_value_heads=4, intermediate_size=64),),
    )
    with pytest.raises(InputError, match="5 drops do not fit in 4 training steps"):
        DropSchedule(source, source, 5, 4)


@pytest.mark.parametrize("drops", [1, 3])
@pytest.mark.parametrize("family", ["llama-tied", "llama-untied", "qwen2", "qwen3"])
def test_growth_reaches_the_design(sources: dict[str, Path], family: str, drops: int) -> None:
    def grown() -> list[torch.Tensor]:
        model = load_model(sources[family])
        source = architecture_from_config(model.config)
        shape = LayerShape(
            num_attention_heads=source.layers[0].num_attention_heads // 2,
            num_key_value_heads=source.layers[0].num_key_value_heads // 2,
            intermediate_size=40,
        )
        target = Architecture(fixed=source.fixed, hidden_size=48, layers=(shape,) * len(source.layers))
        recipe = Recipe(warmup_steps=2, training_steps=6, batch_size=2, micro_batch_size=1, drops=drops, drop_share=0.7)
        blocks = np.random.default_rng(0).integers(0, 300, (16, 16)).astype(np.int32)
        trainer = Trainer(model, blocks, recipe, Compute("cpu", "float32"), seed=0)
        meter, statistics = SaliencyMeter(model, recipe.saliency), InputStatistics(model)
        detach = statistics.attach()
        trainer.train(2, "taking saliency", lambda *_: None, meter)
        detach()
        growth = Growth.into_design(trainer, source, target, recipe, meter.saliency(), statistics.state())
        growth.begin()
        sizes = []
        growth.train(6, lambda *_: sizes.append(sum(parameter.numel() for parameter in model.parameters())))
        assert sum(parameter.numel() for parameter in model.parameters()) == target.parameters
        assert len(set(sizes)) == drops, "each cut shows in the size"
        assert not any(module._forward_pre_hooks for module in model.modules()), "nothing is left recording"
        assert all(state["exp_avg"].shape == parameter.shape for parameter, state in trainer.optimizer.state.items())
        return [parameter.detach().clone() for parameter in model.parameters()]

    for one, other in zip(grown(), grown(), strict=True):
        assert torch.equal(one, other), "one seed, one result"


def test_saliency_goes_on_from_an_earlier_one(sources: dict[str, Path]) -> None:
    """Two halves give what one pass gives, also for the moments."""
    model = load_model(sources["llama-tied"])
    batches = [torch.randint(0, 300, (1, 16), generator=torch.Generator().manual_seed(seed)) for seed in range(4)]

    def observe(meter: SaliencyMeter, statistics: InputStatistics, tokens: list[torch.Tensor]) -> None:
        detach = statistics.attach()
        for batch in tokens:
            model.zero_grad()
            model(input_ids=batch, labels=batch).loss.backward()
            meter.observe()
            meter.end_step()
        detach()

    whole, whole_statistics = SaliencyMeter(model), InputStatistics(model)
    observe(whole, whole_statistics, batches)
    first, first_statistics = SaliencyMeter(model), InputStatistics(model)
    observe(first, first_statistics, batches[:2])
    second, second_statistics = SaliencyMeter(model), InputStatistics(model)
    second.start_from(first.saliency(), 2)
    second_statistics.start_from(first_statistics.state())
    observe(second, second_statistics, batches[2:])
    np.testing.assert_allclose(second.saliency().stem, whole.saliency().stem, rtol=1e-5)
    np.testing.assert_allclose(second.saliency().ffn[1], whole.saliency().ffn[1], rtol=1e-5)
    for name, expected in whole_statistics.state().items():
        torch.testing.assert_close(second_statistics.state()[name], expected, rtol=1e-5, atol=1e-6)
