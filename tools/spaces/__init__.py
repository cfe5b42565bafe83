"""Search spaces: what may be varied, what is legal, and how a draft becomes a legal design."""

from typing import Any

from tools.spaces.base import Parameter, Part, SearchSpace
from tools.spaces.draft import DesignDraft, SpanDraft
from tools.spaces.nasbench201 import Cell, CellDraft, NASBench201Space
from tools.spaces.pruned_lm import PrunedLMSpace

# A new space is one file and one line here; tests/tools/test_spaces.py then asks for its contract.
SPACES: tuple[type[SearchSpace[Any, Any]], ...] = (PrunedLMSpace, NASBench201Space)

__all__ = [
    "SPACES",
    "Cell",
    "CellDraft",
    "DesignDraft",
    "NASBench201Space",
    "Parameter",
    "Part",
    "PrunedLMSpace",
    "SearchSpace",
    "SpanDraft",
]
