"""The page of one run: how far it is, what it costs, its pictures and its trials; live while it runs."""

from typing import Any

import streamlit as st

from graph.events import BudgetEvent
from memory.retrieval import best
from memory.tables import Run
from penjing.figures.stages import stage_style, unmeasured, value_of
from penjing.page.approvals import show_approvals
from penjing.page.charts import show_picture
from penjing.page.places import open_trial
from penjing.page.reading import chosen_run, records, snapshot_of, status, told
from penjing.page.words import as_markdown
from penjing.snapshot import Snapshot

_LIVE_SECONDS, _IDLE_SECONDS = 2.0, 10.0


@told
def show_run() -> None:
    """The run of the address."""
    run = chosen_run()
    st.title(as_markdown(f"Run {run.id}"))
    now = status(run)
    every = {"running": _LIVE_SECONDS, "finished": None}.get(now, _IDLE_SECONDS)
    st.fragment(_watched, run_every=every)(run.id, now)


@told
def _watched(run_id: str, before: str) -> None:
    """The run as it is at this moment; drawn anew as long as it may go on."""
    run = records().run(run_id)
    now = status(run)
    if now != before:
        st.rerun()
    snapshot = snapshot_of(run_id)
    _head(run, now, snapshot)
    show_approvals(run)
    best_so_far, front, speed, lineage = snapshot.pictures()
    cost = st.segmented_control("Loss against", ["size", "speed"], default="size", key="cost")
    left, right = st.columns(2)
    with left:
        clicked = [show_picture(best_so_far, clicks=True)]
    with right:
        clicked.append(show_picture(speed if cost == "speed" else front, clicks=True))
    clicked.append(show_picture(lineage, clicks=True))
    clicked.append(_table(snapshot))
    chosen = next((number for number in clicked if number is not None), None)
    if chosen is not None:
        open_trial(run_id, chosen)


def _head(run: Run, now: str, snapshot: Snapshot) -> None:
    name = f"{run.name}: " if run.name else ""
    message = f" ({run.message})" if run.message else ""
    chat_model = f", chat model {run.config['chat_model']}" if "chat_model" in run.config else ""
    st.markdown(as_markdown(f"{name}{now}{message}. Source {run.source}, corpus {run.corpus}{chat_model}."))
    done = sum(trial.measurement is not None for trial in snapshot.trials)
    asked = max(done, int(run.config.get("trials", done)), 1)
    st.progress(done / asked, text=f"{done} of {asked} trials")
    leaders = best(snapshot.trials, 1)
    facts: dict[str, str] = {}
    if leaders:
        value = value_of(leaders[0])
        facts[f"best {leaders[0].goal.objective}, trial {leaders[0].number}"] = "-" if value is None else f"{value:.4f}"
        facts["its parameters"] = f"{leaders[0].architecture.parameters:,}"
    # Side by side as far as the window is wide.
    with st.container(horizontal=True, gap="large"):
        for label, figure in facts.items():
            st.metric(label, figure, width="content")
    if (spent := records().last_event(run.id, "budget")) is not None:
        st.markdown(as_markdown(f"Spent after {BudgetEvent.model_validate(spent.payload)}."))


def _table(snapshot: Snapshot) -> int | None:
    """All trials; the number of the one that is to be opened."""
    st.header("Trials")
    if not snapshot.trials:
        st.info("There is no trial yet.")
        return None
    numbers = [trial.number for trial in snapshot.trials]
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    number = left.selectbox("Trial", numbers, index=len(numbers) - 1, key="trial to open")
    opened = right.button("Open trial", width="stretch")
    rows: list[dict[str, Any]] = []
    for trial in reversed(snapshot.trials):
        found = trial.measurement
        failure = None if found is None or found.failure is None else found.failure.kind.replace("_", " ")
        row = {
            "trial": trial.number,
            "stage": stage_style(trial.stage).words,
            "proposal": trial.outcome + (", cached" if trial.cached else ""),
            "from": trial.parent_number,
            "parameters": trial.architecture.parameters,
            "loss": trial.loss,
            "ms a token": None if found is None else found.latency_ms,
            "came to": "over the limit" if trial.over_limit else failure or ("" if found else unmeasured(trial)),
            "prompt": trial.prompt_hash,
            "design": trial.architecture.describe(),
        }
        if trial.ladder:
            row["measured"] = trial.measured_after
        rows.append({**row, "accuracy": trial.accuracy} if trial.accuracy is not None else row)
    # A wide table is scrolled in its own box, so that the page itself keeps its width.
    chosen = st.dataframe(
        rows,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key="trials",
        column_config={
            "loss": st.column_config.NumberColumn(format="%.4f"),
            "ms a token": st.column_config.NumberColumn(format="%.1f"),
            "parameters": st.column_config.NumberColumn(format="localized"),
        },
    )
    if chosen["selection"]["rows"]:
        return int(rows[chosen["selection"]["rows"][0]]["trial"])
    return number if opened else None
