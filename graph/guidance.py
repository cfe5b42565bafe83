"""The user's own words for the agents of a run: guidance.md in its folder, read at each turn."""

from pathlib import Path

from graph.context import SearchContext
from graph.events import GuidanceEvent
from graph.state import Stage

LONGEST = 4000
"""Characters that the agents are told; a prompt must have room for the rest."""
_AGENTS = ("self_evolution", "knowledge_distillation")


def guidance_of(context: SearchContext, stage: Stage, turn: int) -> str:
    """What the agents are told in this turn, the same for all its designs; the user is told where that changed."""
    if stage not in _AGENTS:
        return ""
    if turn not in context.guidance:
        before = context.guidance[max(context.guidance)] if context.guidance else ""

        def read() -> str:
            return _read(context, before)

        text = read() if context.cassette is None else context.cassette.guidance(turn, read)
        if text != before:
            context.emit(GuidanceEvent(run=context.run_id, text=text))
        context.guidance[turn] = text
    return context.guidance[turn]


def write_guidance(file: Path, text: str) -> None:
    """Whole or not at all: the run may read it just now."""
    beside = file.with_suffix(".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(file)


def written_guidance(file: Path) -> str:
    """What stands there; the agents may have been told an earlier text."""
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _read(context: SearchContext, before: str) -> str:
    """The file's text; where it cannot be read, what it was, and a word to the user."""
    file = context.folder.guidance
    try:
        text = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        context.emit(GuidanceEvent(run=context.run_id, text=before, problem=f"{file} cannot be read ({error})"))
        return before
    if len(text) > LONGEST:
        words = f"{file} has {len(text):,} characters; the agents are told the first {LONGEST:,}"
        context.emit(GuidanceEvent(run=context.run_id, text=text[:LONGEST], problem=words))
    return text[:LONGEST]
