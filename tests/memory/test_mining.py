"""Patterns mined from measured designs: what was planted is found, and where there is nothing nothing is."""

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom  # type: ignore[import-untyped]

from memory.features import features_of
from memory.mining import ACCURACY, FALSE_DISCOVERIES, LOSS, Finding, mine
from tests.language_model_space import language_model
from tools.architecture import Architecture
from tools.spaces import NASBench201Space, SearchSpace
from tools.spaces.nasbench201_table import NASBench201Table

LANGUAGE, CELLS = language_model(), NASBench201Space()
TABLE = Path(__file__).parents[3] / "shared" / "data" / "nas"
LATE = "ffn of layer 2"


def most(seeds: int) -> int:
    """False lessons at the stated rate, 1 in 20: more of them are as likely as 1 in 2,000."""
    return int(binom.ppf(0.9995, seeds, FALSE_DISCOVERIES))


def draw(space: SearchSpace[Any, Any], count: int, seed: int) -> list[Any]:
    chance = random.Random(seed)
    found = {space.identity(design): design for design in (space.sample(chance) for _ in range(4 * count))}
    return list(found.values())[:count]


def mined(space: SearchSpace[Any, Any], designs: Sequence[Any], scores: Sequence[float]) -> list[Finding]:
    sizes = [design.parameters for design in designs] if isinstance(designs[0], Architecture) else None
    return mine(features_of(space, designs), scores, sizes)


def planted(designs: Sequence[Architecture], seed: int, effect: float, noise: float = 0.02) -> list[float]:
    """Losses that fall with the size, and by `effect` with the logarithm of the last layer's FFN width."""
    chance = np.random.default_rng(seed)
    return [
        4 - math.log(one.parameters / 50_000) + effect * math.log(one.layers[2].intermediate_size) + float(more)
        for one, more in zip(designs, noise * chance.standard_normal(len(designs)), strict=True)
    ]


@pytest.mark.parametrize("count", [8, 16, 40])
@pytest.mark.parametrize("space", [LANGUAGE, CELLS], ids=["pruned_lm", "nasbench201"])
def test_scores_that_mean_nothing_give_no_lesson(space: SearchSpace[Any, Any], count: int) -> None:
    """Odd losses, some far off."""
    found, seeds = 0, 30 if count == 40 else 60
    for seed in range(seeds):
        designs = draw(space, count, seed)
        scores = np.random.default_rng(seed).standard_t(2, len(designs))
        found += bool(mined(space, designs, [float(score) for score in scores]))
    assert found <= most(seeds)


def test_shuffled_scores_of_a_real_effect_give_no_lesson() -> None:
    found = 0
    for seed in range(40):
        designs = draw(LANGUAGE, 20, seed)
        scores = planted(designs, seed, 0.1)
        random.Random(seed).shuffle(scores)
        found += bool(mined(LANGUAGE, designs, scores))
    assert found <= most(40)


@pytest.mark.parametrize(("effect", "choice"), [(0.1, "narrower FFN in layer 2"), (-0.1, "wider FFN in layer 2")])
def test_a_planted_effect_is_found_with_its_size(effect: float, choice: str) -> None:
    hits, others, covered = 0, 0, 0
    for seed in range(20):
        designs = draw(LANGUAGE, 20, seed)
        found = {one.name: one for one in mined(LANGUAGE, designs, planted(designs, seed, effect))}
        others += len(found.keys() - {LATE})
        if LATE in found:
            one, truth = found[LATE], -abs(effect) * math.log(1.1)
            hits += one.choice == f"{choice} goes" and one.designs == 20 and one.low < one.effect < one.high < 0
            covered += one.low <= truth <= one.high
    assert hits >= 19 and others <= 4, "what only goes with the effect is not told beside it"
    assert covered >= 16


def test_size_alone_is_no_lesson() -> None:
    found = 0
    for seed in range(40):
        designs = draw(LANGUAGE, 20, seed)
        found += bool(mined(LANGUAGE, designs, planted(designs, seed, 0.0)))
    assert found <= most(40)


def test_sentences() -> None:
    designs = draw(LANGUAGE, 40, 1)
    (late, *_) = mined(LANGUAGE, designs, planted(designs, 1, 0.1))
    assert late.in_words(LOSS) == (
        f"narrower FFN in layer 2 goes with lower loss: {late.effect:.3f} nats per 10 % "
        f"(95 % {late.low:.3f} to {late.high:.3f}; 40 designs)"
    )
    better = late.in_words(ACCURACY)
    assert "goes with higher accuracy: +0.0" in better and f"(95 % +{-late.high:.3f} to +{-late.low:.3f};" in better


def test_an_operation_is_found_in_the_words_of_the_agents() -> None:
    designs = draw(CELLS, 60, 2)
    chance = np.random.default_rng(2)
    scores = [
        50 - 20 * (one.operations[0] == "nor_conv_3x3") + float(more)
        for one, more in zip(designs, chance.standard_normal(60), strict=True)
    ]
    features = features_of(CELLS, designs, {"nor_conv_3x3": "conv3", "1<-0": "01"})
    found = mine(features, scores)
    assert found[0].choice == "conv3 on 01 goes"
    assert found[0].low < -20 < found[0].high


def test_two_features_together_are_found_by_the_tree() -> None:
    hits, false = 0, 0
    for seed in range(6):
        designs = draw(LANGUAGE, 80, seed)
        noise = 0.05 * np.random.default_rng(seed).standard_normal(80)
        both = [one.layers[0].intermediate_size > 60 and one.layers[1].intermediate_size > 60 for one in designs]
        hits += _together(designs, [4 - 0.5 * one + float(more) for one, more in zip(both, noise, strict=True)])
        alone = [one.layers[0].intermediate_size / 92 + one.layers[1].intermediate_size / 100 for one in designs]
        false += _together(designs, [4 - one + float(more) for one, more in zip(alone, noise, strict=True)])
    assert hits >= 3 and false <= 1


def _together(designs: Sequence[Architecture], scores: Sequence[float]) -> bool:
    found = mined(LANGUAGE, designs, scores)
    return any({*one.name.split(" with ")} == {"ffn of layer 0", "ffn of layer 1"} for one in found)


def test_few_designs_and_equal_scores_give_nothing() -> None:
    designs = draw(LANGUAGE, 24, 0)
    assert mined(LANGUAGE, designs[:7], planted(designs[:7], 0, 5.0, noise=0)) == []
    assert mined(LANGUAGE, designs, [4.0] * 24) == []
    assert mined(LANGUAGE, [designs[0]] * 24, planted(designs, 0, 5.0)) == [], "one design says nothing of others"


def test_a_feature_that_only_two_designs_differ_in_says_nothing() -> None:
    base, other = draw(LANGUAGE, 2, 0)
    designs = [base] * 18 + [other] * 2
    assert mined(LANGUAGE, designs, [4.0 + 0.001 * (one % 3) for one in range(18)] + [3.0, 3.0]) == []


def test_equal_records_in_another_order_give_equal_findings_within_chance() -> None:
    designs = draw(LANGUAGE, 40, 1)
    scores = planted(designs, 1, 0.1)
    first = mined(LANGUAGE, designs, scores)
    assert first == mined(LANGUAGE, designs, scores)
    back = mined(LANGUAGE, designs[::-1], scores[::-1])
    assert first[0].name == back[0].name and first[0].effect == pytest.approx(back[0].effect)


@pytest.mark.skipif(not TABLE.is_dir(), reason="needs the table of NAS-Bench-201 in ../shared/data")
def test_real_cells_agree_with_the_whole_table() -> None:
    """What 50 random cells show has the sign that all 15,625 have."""
    (path,) = [one for one in TABLE.rglob("*") if "201" in one.name and one.name.endswith((".csv.gz", ".csv"))][:1]
    table = NASBench201Table.read(path)
    every = list(CELLS.designs())
    errors = np.array([100 - table.validation(one) for one in every])
    whole = {one.name: one.values for one in features_of(CELLS, every)}
    told = 0
    for seed in range(10):
        designs = draw(CELLS, 50, seed)
        scores = [100 - table.validation(one) for one in designs]
        # Later ones are told beside it, and may turn round without it.
        for one in mined(CELLS, designs, scores)[:1]:
            told += 1
            truth = float(np.cov(whole[one.name], errors)[0, 1])
            assert (truth > 0) == one.choice.startswith(("no ", "less ")), one
    assert told >= 3
