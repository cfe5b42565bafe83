"""The page of what a run did: its turns, calls and evaluations as a tree, and what was said in each call."""

import streamlit as st

from graph.trace import TracedSpan, matching, pruned, telling
from penjing.page.reading import chosen_run, told, trace_of
from penjing.page.words import as_markdown, show_note, show_text
from penjing.trace_lines import call_lines, label

_MOST_LINES = 300


@told
def show_traces() -> None:
    """The trace of the run of the address."""
    run = chosen_run()
    st.title(as_markdown(f"Traces of {run.id}"))
    roots = trace_of(run.id)
    words = st.text_input("Only what has these words in it, prompts and answers included")
    shown = [kept for root in roots if (kept := _kept(root, words)) is not None]
    if not shown:
        st.info("Nothing has these words in it." if words else "Nothing is recorded yet.")
        return
    lines = ["  " * depth + label(span).plain for root in shown for depth, span in root.walk()]
    if len(lines) > _MOST_LINES and not st.toggle(f"Show all {len(lines):,} lines"):
        show_note(f"The last {_MOST_LINES} lines.")
        lines = lines[-_MOST_LINES:]
    show_text("\n".join(lines))
    _calls(shown)


def _kept(root: TracedSpan, words: str) -> TracedSpan | None:
    return pruned(root, (lambda span: matching(span, words) is not None) if words else telling)


def _calls(roots: list[TracedSpan]) -> None:
    calls = [span.call for root in roots for _, span in root.walk() if span.call is not None]
    if not calls:
        return
    st.header("Calls")
    names = {call.id: f"{call.id}: turn {call.turn}, {call.agent}, {call.schema_name}" for call in reversed(calls)}
    chosen = st.selectbox("Call", list(names), format_func=names.__getitem__)
    call = next(one for one in calls if one.id == chosen)
    show_text("\n".join(line.plain for line in call_lines(call)))
