"""What memory gives for one turn of a search, by its settings; written on the cassette and replayed from it."""

from dataclasses import replace
from functools import partial

from graph.context import SearchContext
from graph.findings import findings
from graph.state import Stage
from memory.pattern_book import as_told, best_standing, contradicted_wordings, patterns_within_reach
from memory.recall import Here
from memory.recall import recollect as recollect_from
from memory.recollection import NOTHING, Recollection, RetrievedWording
from memory.stored_library import StoredLibrary
from memory.views import TrialView
from memory.wordings import better_wordings

_TEMPLATES: dict[Stage, tuple[str, ...]] = {
    "self_evolution": ("strategies", "design"),
    "knowledge_distillation": ("inspiration",),
}
"""What the agents are asked with in each of their stages."""


def recollect(context: SearchContext, stage: Stage, turn: int, parent: TrialView | None) -> Recollection:
    """All that memory gives for this turn of the agents; the same for all designs of the turn."""
    if parent is None or stage not in _TEMPLATES or not context.config.recalls("designs"):
        return NOTHING
    if turn not in context.recollections:
        look = partial(_look, context, stage, turn, parent)
        with context.tracing.span("recall", "RETRIEVER", {"penjing.turn": turn}) as span:
            found = look() if context.cassette is None else context.cassette.recall(turn, look)
            span.say({"penjing.retrieved": found.listed()})
        context.recollections[turn] = found
    return context.recollections[turn]


def _look(context: SearchContext, stage: Stage, turn: int, parent: TrialView) -> Recollection:
    config, library = context.config, context.library
    design = parent.architecture
    # Lessons are looked up by what was thought and made last.
    topic = " ".join([*parent.rationale, design.describe()])
    here = Here(parent.name, parent.identity, design, library.size_of(design), topic)
    wordings = _wordings(context, library, stage) if config.recalls("wordings") else []
    if not config.recalls("lessons"):
        found = recollect_from(library, here, config.recall, library.scope, lessons=False)
        return replace(found, wordings=tuple(wordings))
    known = patterns_within_reach(context.records, context.run_id, config.past_runs != "none")
    told = best_standing(known, config.recall)
    # What is told as a pattern is no lesson besides, and what is contradicted is none at all.
    without = contradicted_wordings(known).union(*(one.wordings for one in told))
    return replace(
        recollect_from(library, here, config.recall, library.scope, without=without),
        wordings=tuple(wordings),
        patterns=tuple(as_told(told, context.run_id)),
        evidence=tuple(findings(context, stage, turn, parent)),
    )


def _wordings(context: SearchContext, library: StoredLibrary, stage: Stage) -> list[RetrievedWording]:
    names = [context.dialect.prefix + name for name in _TEMPLATES[stage]]
    counts = context.records.wording_counts(names, library.runs)
    return better_wordings(counts, {name: context.prompts.hash(name) for name in names}) if counts else []
