"""What a search remembers: records, the vector store, and what is retrieved from them.

Names are loaded when they are first used, so that `import memory` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memory.objectives import figure, front, read_objectives
    from memory.pareto import pareto_front
    from memory.rebuild import index_prompts, index_trials, open_vectors, rebuild_vectors, reconcile_vectors
    from memory.recollection import Recollection, RetrievedDesign, RetrievedLesson, RetrievedWording
    from memory.records import Records
    from memory.retrieval import best, nearest_to_limit, sample_best
    from memory.tables import Call, Evaluation, FinishedTrialError, Prompt, Proposal, Run, Trial
    from memory.vectors import Neighbour, Passage, VectorStore
    from memory.views import TrialView

__all__ = [
    "Call",
    "Evaluation",
    "FinishedTrialError",
    "Neighbour",
    "Passage",
    "Prompt",
    "Proposal",
    "Recollection",
    "Records",
    "RetrievedDesign",
    "RetrievedLesson",
    "RetrievedWording",
    "Run",
    "Trial",
    "TrialView",
    "VectorStore",
    "best",
    "figure",
    "front",
    "index_prompts",
    "index_trials",
    "nearest_to_limit",
    "open_vectors",
    "pareto_front",
    "read_objectives",
    "rebuild_vectors",
    "reconcile_vectors",
    "sample_best",
]

_NAMES = {
    "objectives": "figure front read_objectives",
    "pareto": "pareto_front",
    "rebuild": "index_prompts index_trials open_vectors rebuild_vectors reconcile_vectors",
    "recollection": "Recollection RetrievedDesign RetrievedLesson RetrievedWording",
    "records": "Records",
    "retrieval": "best nearest_to_limit sample_best",
    "tables": "Call Evaluation FinishedTrialError Prompt Proposal Run Trial",
    "vectors": "Neighbour Passage VectorStore",
    "views": "TrialView",
}
_HOMES = {name: f"memory.{module}" for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'memory' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
