"""The page of the templates: which versions were used and what came of them, and an edit for one run."""

from pathlib import Path

import streamlit as st

from graph.guidance import LONGEST, write_guidance, written_guidance
from memory.tables import Run
from penjing.page.reading import chosen_run, outcomes_of, records, session_of, told
from penjing.page.words import as_markdown, show_note, show_text
from prompts.editing import save_template
from prompts.library import PromptLibrary


@told
def show_prompts() -> None:
    """The templates of the run of the address."""
    run = chosen_run()
    st.title(as_markdown(f"Prompts of {run.id}"))
    session = session_of(run)
    library = PromptLibrary(session.config.prompt_dir, above=session.folder.prompts)
    _outcomes(run)
    if run.imported_at is None:
        _guidance(session.folder.guidance)
    st.header("Edit a template")
    names, asked = library.names(), st.query_params.get("template", "strategies")
    name = st.selectbox("Template", names, index=names.index(asked) if asked in names else 0)
    path, header = library.path(name), library.header(name)
    whose = {session.folder.prompts: "of this run"}.get(
        path.parent, "packaged" if path.is_relative_to(library.packaged_folder) else "yours"
    )
    st.markdown(as_markdown(f"{header.description.rstrip('.')}. In use: version {library.hash(name)}, {whose}."))
    _edit(run, name, path.read_text(encoding="utf-8"), library.hash(name))


def _edit(run: Run, name: str, text: str, version: str) -> None:
    if run.imported_at is not None:
        show_text(text)
        return
    show_note("Taken at the next turn of a running search, in this run alone. What is broken is refused.")
    with st.form(f"edit {name} {version}"):
        edited = st.text_area("Text of the template", text, height=420)
        saved = st.form_submit_button("Save for this run")
    if not saved:
        return
    findings = save_template(session_of(run).folder.prompts, name, edited)
    errors = [finding for finding in findings if finding.level == "error"]
    for finding in findings:
        line = "" if finding.line is None else f", line {finding.line}"
        (st.error if finding in errors else st.warning)(as_markdown(f"{finding.name}{line}: {finding.words}"))
    if errors:
        st.error("Nothing was saved: the version in use stays.")
    else:
        library = PromptLibrary(above=session_of(run).folder.prompts)
        st.success(as_markdown(f"Saved: version {library.hash(name)} from the next turn on."))


def _guidance(file: Path) -> None:
    st.header("Guidance")
    with st.form("guidance"):
        text = st.text_area("Your own words for the agents", written_guidance(file), max_chars=LONGEST)
        if st.form_submit_button("Tell them"):
            write_guidance(file, text)
            st.success("They read it from their next turn on." if text else "They are told nothing any more.")
    show_note("Read at each turn, as the user's guidance; it stays in the trace.")


def _outcomes(run: Run) -> None:
    st.header("What came of each version")
    rows = outcomes_of(run.id)
    if not rows:
        st.info("No template was used in this run yet.")
        return
    st.dataframe(
        [
            {
                "template": row.name,
                "version": row.hash,
                "calls": row.calls,
                "better than parent": _share(row.better, row.designs),
                "legal at once": _share(row.legal, row.answers),
                "tokens a call": round(row.tokens / row.calls),
                "USD": row.cost_usd,
            }
            for row in rows
        ],
        hide_index=True,
    )
    with st.expander("Read a version that was used"):
        version = st.selectbox("Version", [row.hash for row in rows])
        show_text(records().prompt(version).text)


def _share(count: int, of: int) -> str:
    return f"{count} of {of} ({count / of:.0%})" if of else "-"
