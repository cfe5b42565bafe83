"""The page of all runs."""

import streamlit as st

from penjing.page.places import open_run
from penjing.page.reading import records, status, told
from penjing.page.words import show_note


@told
def show_runs() -> None:
    """A line for each run; one that is chosen is opened."""
    st.title("Runs")
    runs = records().runs()
    if not runs:
        st.info("There is no run yet; start one with: penjing search \\-\\-preset quick")
        return
    counts = records().trial_counts()
    rows = [
        {
            "run": run.id,
            "name": run.name,
            "status": status(run) + (", imported" if run.imported_at is not None else ""),
            "trials": counts.get(run.id, 0),
            "source": run.source,
            "corpus": run.corpus,
            "begun": run.created_at,
        }
        for run in runs
    ]
    show_note("Choose a line to open its run, or name it here.")
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    name = left.selectbox("Run", [run.id for run in runs], key="run to open")
    if right.button("Open run", width="stretch"):
        open_run(name)
    chosen = st.dataframe(rows, hide_index=True, on_select="rerun", selection_mode="single-row", key="runs")
    if chosen["selection"]["rows"]:
        open_run(runs[chosen["selection"]["rows"][0]].id)
