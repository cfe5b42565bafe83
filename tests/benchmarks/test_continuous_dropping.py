"""Continuous dropping: what is counted from the events, the token budget, and both runs of a tiny model."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks import continuous_dropping
from benchmarks.continuous_dropping import (
    WIDTHS,
    adds_up,
    dropping_tokens,
    measure,
    most_channel_units,
    ratio_of,
    replayed,
    violations,
)
from benchmarks.growing import Job, Scale
from tools.architecture import Architecture, FixedShape, LayerShape
from tools.pretrain import PretrainResult
from tools.pruning.drop_event import DropEvent, pruned_share, removed_between
from tools.pruning.drop_policy import channel_units
from tools.pruning.greedy import SaliencyDesigner
from tools.pruning.groups import PruningType
from tools.pruning.saliency import Saliency
from tools.settings import SpaceSettings

SMOLLM2 = Architecture(
    fixed=FixedShape(model_type="llama", vocab_size=49152, head_dim=64, tie_word_embeddings=True),
    hidden_size=576,
    layers=(LayerShape(num_attention_heads=9, num_key_value_heads=3, intermediate_size=1536),) * 30,
)


def event_of(before: Architecture, after: Architecture, number: int, tokens: int, **least: float | None) -> DropEvent:
    offered: dict[PruningType, float | None] = {"attention": 2.0, "ffn": 1.0, "stem": 3.0, **least}  # type: ignore[dict-item]
    return DropEvent(
        number=number,
        step=tokens // 10,
        tokens=tokens,
        least_saliency=offered,
        removed=removed_between(before, after),
        pruned_share=pruned_share(before, after),
        parameters=after.parameters,
        hidden_size=after.hidden_size,
    )


def one_less(design: Architecture, heads: int = 0, ffn: int = 0, stem: int = 0) -> Architecture:
    layers = [
        LayerShape(
            num_attention_heads=layer.num_attention_heads - 3 * heads,
            num_key_value_heads=layer.num_key_value_heads - heads,
            intermediate_size=layer.intermediate_size - ffn,
        )
        for layer in design.layers
    ]
    return Architecture(fixed=design.fixed, hidden_size=design.hidden_size - stem, layers=tuple(layers))


def test_violations_are_what_was_not_the_lowest_type_alone() -> None:
    ffn, stem = one_less(SMOLLM2, ffn=1), one_less(SMOLLM2, stem=1)
    assert violations([event_of(SMOLLM2, ffn, 1, 10)]) == 0
    assert violations([event_of(SMOLLM2, stem, 1, 10, attention=None, stem=0.5)]) == 0
    assert violations([event_of(SMOLLM2, stem, 1, 10)]) == 1
    assert violations([event_of(SMOLLM2, ffn, 1, 10, ffn=None)]) == 1
    assert violations([event_of(SMOLLM2, one_less(SMOLLM2, ffn=1, stem=1), 1, 10)]) == 1
    assert violations([event_of(SMOLLM2, SMOLLM2, 1, 10)]) == 1


def test_events_account_for_every_parameter() -> None:
    designs = [SMOLLM2]
    for change in ({"ffn": 1}, {"stem": 2}, {"heads": 1}, {"ffn": 3}):
        designs.append(one_less(designs[-1], **change))
    steps = enumerate(pairwise(designs))
    events = [event_of(before, after, number + 1, 10 * number) for number, (before, after) in steps]
    assert replayed(SMOLLM2, events) == designs
    last = designs[-1]
    result = PretrainResult(
        status="finished",
        source_parameters=SMOLLM2.parameters,
        parameters=last.parameters,
        architecture=last,
        tokens=40,
        events=4,
        seconds=1.0,
    )
    assert adds_up(SMOLLM2, events, result, last.parameters)
    assert not adds_up(SMOLLM2, events, result, last.parameters + 1)
    assert not adds_up(SMOLLM2, events[:-1], result, last.parameters)
    wrong = events[1].model_copy(update={"parameters": events[1].parameters + 1})
    assert not adds_up(SMOLLM2, [events[0], wrong, *events[2:]], result, last.parameters)


def test_the_ratio_counts_from_the_first_event_to_the_last() -> None:
    ffn = one_less(SMOLLM2, ffn=1)
    events = [event_of(SMOLLM2, ffn, 1, 100), event_of(ffn, one_less(ffn, ffn=1), 2, 130)]
    assert dropping_tokens(events, events[-1].parameters) == 30
    assert dropping_tokens(events, events[-1].parameters - 1) is None and dropping_tokens([], 1) is None
    assert ratio_of({1: 30, 2: 60}) == 2.0
    assert ratio_of({1: None, 2: 60}) is ratio_of({1: 30, 2: None}) is ratio_of({1: 0, 2: 60}) is None


@pytest.mark.parametrize("likely", ["ffn", "stem", "any"])
def test_no_order_of_drops_takes_more_channel_units_than_the_budget(likely: str) -> None:
    target = round(0.97 * SMOLLM2.parameters)
    space = SpaceSettings(max_parameters=target, **WIDTHS.model_dump())
    design, units, random = SMOLLM2, 0, np.random.default_rng(0)
    scale = {"ffn": 1.0, "stem": 1.0, "heads": 100.0} | ({likely: 1e-3} if likely != "any" else {})
    while design.parameters > target:
        saliency = Saliency(
            kv_group=tuple(random.random(3).astype(np.float32) * scale["heads"] for _ in range(30)),
            query_head=tuple(random.random(9).astype(np.float32) for _ in range(30)),
            ffn=tuple(
                random.random(layer.intermediate_size).astype(np.float32) * scale["ffn"] for layer in design.layers
            ),
            stem=random.random(design.hidden_size).astype(np.float32) * scale["stem"] * 30,
        )
        smaller = SaliencyDesigner(design, saliency, space).next_step(design)
        units += channel_units(removed_between(design, smaller), design, space)
        design = smaller
    bound = most_channel_units(SMOLLM2, target)
    assert units <= bound
    # Nor is it a guess far above: all FFN channels alone take so many.
    assert likely != "ffn" or units == bound


def test_a_tiny_model_takes_twice_the_tokens_with_n_two(job_for: Callable[[str, Scale], Job], tmp_path: Path) -> None:
    job = job_for(continuous_dropping.NAME, Scale(tokens=0, batch=1, micro_batch=1, block=16, validation_tokens=64))
    figures, holds = measure(job, 0.95, None, tmp_path / "pictures")
    one, two = figures["runs"]
    assert one["violations"] == two["violations"] == 0 and one["exact"] and two["exact"]
    assert one["parameters"] <= figures["target_parameters"] and two["tokens"] > one["tokens"]
    assert sum(one["events_by_type"].values()) == one["events"] > 1
    assert figures["ratio"] == pytest.approx(two["dropping_tokens"] / one["dropping_tokens"], abs=1e-4)
    assert holds == (1.8 <= figures["ratio"] <= 2.2)
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        "continuous_dropping.png",
        "continuous_dropping_design.png",
    }
    assert measure(job, 0.95, None, tmp_path / "pictures") == (figures, holds)
