"""How the agents speak about each search space: its words, its templates, and the answers that they ask for."""

from collections.abc import Callable
from typing import Any

from agents.dialects.base import Dialect
from agents.dialects.nasbench201 import CellTrial, NASBench201Dialect
from agents.dialects.pruned_lm import PrunedLMDialect

# A new space for the agents is one file, its templates and one entry here; tests/agents/test_dialects.py then asks for
# its contract. Each is made of the space and of what its designs are for: the source model, the task.
DIALECTS: dict[str, Callable[[Any, str], Dialect[Any, Any, Any]]] = {
    "pruned_lm": PrunedLMDialect,
    "nasbench201": NASBench201Dialect,
}

__all__ = ["DIALECTS", "CellTrial", "Dialect", "NASBench201Dialect", "PrunedLMDialect"]
