"""Designs that wait for their user: accept, edit, or reject with words, as `penjing approve` does."""

import json

import streamlit as st

from graph.approval import Waiting
from graph.session import SearchSession
from memory.tables import Run
from penjing.page.reading import session_of
from penjing.page.words import as_markdown, show_error, show_text
from tools.errors import InputError


def show_approvals(run: Run) -> None:
    """All that wait in a run; nothing where none does."""
    session = session_of(run)
    try:
        waiting = session.waiting()
    except InputError as error:
        show_error(error)
        return
    for one in waiting:
        _show(session, one)


def _show(session: SearchSession, one: Waiting) -> None:
    with st.container(border=True):
        st.header(f"Trial {one.trial} waits for your decision")
        origin = "the source" if one.parent is None else f"trial {one.parent}"
        words = (
            f"By {one.proposer} in turn {one.turn}, from {origin}; {one.parameters:,} parameters; its evaluation takes "
        )
        st.markdown(as_markdown(f"{words}about {one.expected_seconds:,.0f} s. {one.expected}"))
        show_text("\n".join([one.design, *one.change, *(f"because: {reason}" for reason in one.rationale)]))
        key = f"{one.run} {one.trial}"
        # The page is drawn anew every few seconds; what was wrong stays until the next try.
        if (problem := st.session_state.get(f"problem {key}")) is not None:
            show_error(problem)
        if st.button("Accept", key=f"accept {key}", type="primary"):
            _decide(session, one, "accept")
        with st.form(f"reject {key}", border=False):
            reason = st.text_area("Why it is rejected; its author reads this", key=f"words {key}")
            if st.form_submit_button("Reject"):
                _decide(session, one, "reject", words=reason)
        with st.expander("Edit the design", expanded=problem is not None), st.form(f"edit {key}", border=False):
            before = json.dumps(one.draft.model_dump(mode="json"), indent=1)
            design = st.text_area("Design as JSON", before, height=240, key=f"design {key}")
            if st.form_submit_button("Take this design"):
                _decide(session, one, "edit", design=design)


def _decide(session: SearchSession, one: Waiting, decision: str, design: str | None = None, words: str = "") -> None:
    try:
        if decision == "edit":
            session.decide(one.trial, "edit", design)
        elif decision == "reject":
            session.decide(one.trial, "reject", words=words)
        else:
            session.decide(one.trial, "accept")
    except InputError as error:
        st.session_state[f"problem {one.run} {one.trial}"] = error
    st.rerun()
