"""What is mined from the records for the agents: which widths go with good designs at equal size."""

from graph.context import SearchContext
from graph.screening import trials_before
from graph.state import Stage
from memory.features import features_of
from memory.mining import ACCURACY, LOSS, mine
from memory.recollection import RetrievedFinding
from memory.views import TrialView
from tools.architecture import Architecture

_FINDINGS: dict[Stage, int] = {"self_evolution": 2, "knowledge_distillation": 4}
"""The most findings that an agent is told: the distiller is the one who looks for them."""
MOST_FINDINGS = max(_FINDINGS.values())


def findings(context: SearchContext, stage: Stage, turn: int, parent: TrialView) -> list[RetrievedFinding]:
    """What the designs say that this run measured before this turn, and others measured alike before it began.

    All are of the fidelity at which `parent` was measured first, where all trials were, and each counts once.
    """
    fidelity, known = parent.on_first_rung().fidelity, dict[str, tuple[Architecture, float]]()
    for trial in (one.on_first_rung() for one in trials_before(context, turn)):
        if trial.fidelity == fidelity and trial.score is not None:
            known.setdefault(trial.identity, (trial.architecture, trial.score))
    for earlier in context.measured_alike:
        known.setdefault(earlier.architecture.hash, (earlier.architecture, earlier.score))
    rows = [(design, score) for design, score in known.values() if _in_space(context, design)]
    if not rows:
        return []
    designs = [design for design, _ in rows]
    found = mine(
        features_of(context.space, designs), [score for _, score in rows], [design.parameters for design in designs]
    )
    after = f" ({context.after_first_rung.strip()})" if context.after_first_rung else ""
    aim = LOSS if context.config.objective == "loss" else ACCURACY
    return [RetrievedFinding(one.name, one.in_words(aim) + after) for one in found[: _FINDINGS.get(stage, 0)]]


def _in_space(context: SearchContext, design: Architecture) -> bool:
    """Whether the space can tell a design by its choices: those of other settings may have widths between its steps."""
    try:
        context.space.encode(design)
    except ValueError:
        return False
    return True
