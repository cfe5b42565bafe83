"""The pages and their addresses, and going from one to another."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from streamlit.navigation.page import StreamlitPage

_TITLES = {"runs": "Runs", "run": "Run", "trial": "Trial", "prompts": "Prompts", "traces": "Traces"}


def pages() -> "dict[str, StreamlitPage]":
    """All pages by the last part of their addresses."""
    # They name each other through this module.
    from penjing.page.prompts_page import show_prompts
    from penjing.page.run_page import show_run
    from penjing.page.runs_page import show_runs
    from penjing.page.traces_page import show_traces
    from penjing.page.trial_page import show_trial

    shown: dict[str, Callable[[], None]] = {
        "runs": show_runs,
        "run": show_run,
        "trial": show_trial,
        "prompts": show_prompts,
        "traces": show_traces,
    }
    return {
        name: st.Page(show, title=_TITLES[name], url_path=name, default=name == "runs") for name, show in shown.items()
    }


def open_run(run: str) -> None:
    """Go to the page of a run."""
    st.session_state["run"] = run
    st.switch_page(pages()["run"], query_params={"run": run})


def open_trial(run: str, trial: int) -> None:
    """Go to the page of one of its trials."""
    st.session_state["run"] = run
    st.switch_page(pages()["trial"], query_params={"run": run, "trial": str(trial)})
