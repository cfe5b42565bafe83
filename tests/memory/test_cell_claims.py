"""Claims about cells, read from short sentences and tested by pairs of cells."""

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.cell_claims import CellClaim, read_cell_claim
from memory.patterns import Measured, comparisons, verdict
from tools.spaces import Cell, NASBench201Space
from tools.spaces.nasbench201 import EDGES, OPERATIONS

SPACE = NASBench201Space()
READ = {
    "conv3 on 01": "nor_conv_3x3 on 1<-0",
    "Use conv3 on edge 0->1.": "nor_conv_3x3 on 1<-0",
    "The good cells share a 3x3 convolution on 3<-2": "nor_conv_3x3 on 3<-2",
    "Avoid none on 03, because it cuts the edge": "no none on 3<-0",
    "more skip connections": "more skip_connect",
    "Fewer pooling edges": "fewer avg_pool_3x3",
    "nor_conv_1x1 is common": "more nor_conv_1x1",
    "no pool on 1-3": "no avg_pool_3x3 on 3<-1",
}


@pytest.mark.parametrize("sentence", READ)
def test_sentences_are_read(sentence: str) -> None:
    claim = read_cell_claim(sentence)
    assert claim is not None and claim.in_words() == READ[sentence]
    assert CellClaim.model_validate_json(claim.model_dump_json()) == claim


@pytest.mark.parametrize(
    "sentence",
    ["", "conv3", "conv3 and skip on 01", "conv3 on 01 and 02", "more of all", "conv3 on 33", "not more conv3"],
)
def test_what_is_not_understood_is_no_claim(sentence: str) -> None:
    assert read_cell_claim(sentence) is None


@given(st.text(string.printable, max_size=60))
def test_babble_never_raises(text: str) -> None:
    read_cell_claim(text)


@given(st.integers(0, 10_000), st.sampled_from(OPERATIONS), st.sampled_from([None, *EDGES]))
def test_movement_is_antisymmetric(seed: int, operation: str, edge: tuple[int, int] | None) -> None:
    chance = random.Random(seed)
    before, after = SPACE.sample(chance), SPACE.sample(chance)
    more, fewer = (
        CellClaim.model_validate({"operation": operation, "edge": edge, "direction": way}) for way in ("more", "fewer")
    )
    assert more.movement(before, after) == -more.movement(after, before) == -fewer.movement(before, after)


def test_trials_without_sizes_test_claims() -> None:
    """Cells have no parameters to make up for; the one without a parent is compared with its nearest."""

    def measured(number: int, parent: int | None, cell: Cell, error: float) -> Measured[Cell]:
        return Measured(number, parent, cell, cell.hash, None, error, "200 epochs")

    base = Cell(operations=("none",) * 6)
    better = base.model_copy(update={"operations": ("nor_conv_3x3", *base.operations[1:])})
    further = base.model_copy(update={"operations": ("nor_conv_3x3", "skip_connect", *base.operations[2:])})
    trials = [measured(0, None, base, 50.0), measured(1, 0, better, 40.0), measured(2, None, further, 45.0)]

    def distance(one: Cell, other: Cell) -> float:
        return float(sum(a != b for a, b in zip(one.operations, other.operations, strict=True)))

    found = list(comparisons(trials, distance, 0.5))
    assert [(one.number, other.number, change) for one, other, change in found] == [(0, 1, -10.0), (1, 2, 5.0)]
    conv, skip = read_cell_claim("conv3 on 01"), read_cell_claim("more skip")
    assert conv is not None and skip is not None
    said = [
        [verdict(claim.movement(a.design, b.design), change, 0.5) for a, b, change in found] for claim in (conv, skip)
    ]
    assert said == [["support", None], [None, "contradiction"]]
