"""Penjing grows large language models into compact ones, by training and pruning at the same time.

    from penjing import SearchConfig, SearchSession

    session = SearchSession.start(SearchConfig(max_parameters=115_000_000, trials=6))
    for event in session.stream():
        print(event)
    session.export(session.best(), "out/")

Names are loaded when they are first used, so that `import penjing` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graph.config import SearchConfig
    from graph.events import AnyEvent
    from graph.judgement import Judgement
    from graph.session import SearchSession
    from graph.tournament import judge
    from memory.views import TrialView as Trial
    from penjing.home_memory import Memory
    from prompts.library import PromptError
    from tools.architecture import Architecture
    from tools.errors import InputError
    from tools.evaluate import EvaluateRequest, EvaluateResult, evaluate
    from tools.measurement import Measurement
    from tools.one_shot import PruneRequest, PruneResult, prune
    from tools.pretrain import PretrainRequest, PretrainResult, pretrain
    from tools.settings import DataSettings, Recipe, WidthSettings

__all__ = [
    "AnyEvent",
    "Architecture",
    "DataSettings",
    "EvaluateRequest",
    "EvaluateResult",
    "InputError",
    "Judgement",
    "Measurement",
    "Memory",
    "PretrainRequest",
    "PretrainResult",
    "PromptError",
    "PruneRequest",
    "PruneResult",
    "Recipe",
    "SearchConfig",
    "SearchSession",
    "Trial",
    "WidthSettings",
    "evaluate",
    "judge",
    "pretrain",
    "prune",
]

_HOMES = {
    "AnyEvent": ("graph.events", "AnyEvent"),
    "Architecture": ("tools.architecture", "Architecture"),
    "DataSettings": ("tools.settings", "DataSettings"),
    "EvaluateRequest": ("tools.evaluate", "EvaluateRequest"),
    "EvaluateResult": ("tools.evaluate", "EvaluateResult"),
    "InputError": ("tools.errors", "InputError"),
    "Judgement": ("graph.judgement", "Judgement"),
    "Measurement": ("tools.measurement", "Measurement"),
    "Memory": ("penjing.home_memory", "Memory"),
    "PretrainRequest": ("tools.pretrain", "PretrainRequest"),
    "PretrainResult": ("tools.pretrain", "PretrainResult"),
    "PromptError": ("prompts.library", "PromptError"),
    "Recipe": ("tools.settings", "Recipe"),
    "SearchConfig": ("graph.config", "SearchConfig"),
    "SearchSession": ("graph.session", "SearchSession"),
    "Trial": ("memory.views", "TrialView"),
    "WidthSettings": ("tools.settings", "WidthSettings"),
    "PruneRequest": ("tools.one_shot", "PruneRequest"),
    "PruneResult": ("tools.one_shot", "PruneResult"),
    "evaluate": ("tools.evaluate", "evaluate"),
    "judge": ("graph.tournament", "judge"),
    "pretrain": ("tools.pretrain", "pretrain"),
    "prune": ("tools.one_shot", "prune"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'penjing' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    from penjing.surroundings import require_own_folders

    require_own_folders()
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return __all__
