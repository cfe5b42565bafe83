"""What the pages read: the records, each run as it is now, and what was read before and has not changed since."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import streamlit as st

from graph.config import SearchConfig
from graph.prompt_outcomes import PromptOutcome, prompt_outcomes
from graph.session import SearchSession
from graph.story import Story
from graph.trace import TracedSpan
from memory.records import Records
from memory.tables import Run
from penjing.documents import status_of
from penjing.page.words import show_error
from penjing.sessions import home_folder, open_records
from penjing.snapshot import Snapshot, read_snapshot
from prompts.library import PromptError
from tools.errors import InputError

Parameters = ParamSpec("Parameters")


def told(page: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """A page that says what is wrong where a run, a trial or a template is not there or cannot be used."""

    @wraps(page)
    def showing(*arguments: Parameters.args, **named: Parameters.kwargs) -> None:
        try:
            page(*arguments, **named)
        except (InputError, PromptError) as error:
            show_error(error)

    return showing


@st.cache_resource(show_spinner=False)
def _records(home: str) -> Records:
    return open_records()


def records() -> Records:
    """The records of all runs, open for everybody who looks. Raises InputError where there are none."""
    return _records(str(home_folder()))


def session_of(run: Run) -> SearchSession:
    """The run as its user holds it."""
    config = SearchConfig.model_validate({**run.config, "home": home_folder()})
    return SearchSession(run.id, config, records())


def status(run: Run) -> str:
    """How it stands now."""
    return status_of(run, home_folder())


def chosen_run() -> Run:
    """The run of the address, else the one that was looked at last, else the latest. Raises InputError for none."""
    name = st.query_params.get("run") or st.session_state.get("run") or "latest"
    try:
        run = records().run(name)
    except InputError:
        st.session_state.pop("run", None)
        raise
    st.session_state["run"] = run.id
    if st.query_params.get("run") != run.id:
        st.query_params["run"] = run.id
    return run


def snapshot_of(run_id: str) -> Snapshot:
    """The run with its trials. Raises InputError where it is not there any more."""
    found = records()
    found.run(run_id)
    return _snapshot(found.place, run_id, found.marks(run_id))


def story_of(run_id: str, trial: int) -> Story:
    """The story of one trial. Raises InputError where there is none."""
    return _story(records().place, run_id, trial, records().marks(run_id))


def trace_of(run_id: str) -> list[TracedSpan]:
    """The spans of a run as trees."""
    return _trace(records().place, run_id, records().marks(run_id))


def outcomes_of(run_id: str) -> list[PromptOutcome]:
    """What came of each version of each template in the run."""
    return _outcomes(records().place, run_id, records().marks(run_id))


# The places and marks below are only looked at: what was read stays good while they are the same.
@st.cache_resource(show_spinner=False, max_entries=8)
def _snapshot(place: str, run_id: str, marks: tuple[object, ...]) -> Snapshot:
    return read_snapshot(records(), run_id)


@st.cache_resource(show_spinner=False, max_entries=32)
def _story(place: str, run_id: str, trial: int, marks: tuple[object, ...]) -> Story:
    return session_of(records().run(run_id)).story(trial)


@st.cache_resource(show_spinner=False, max_entries=4)
def _trace(place: str, run_id: str, marks: tuple[object, ...]) -> list[TracedSpan]:
    return session_of(records().run(run_id)).trace()


@st.cache_resource(show_spinner=False, max_entries=4)
def _outcomes(place: str, run_id: str, marks: tuple[object, ...]) -> list[PromptOutcome]:
    return prompt_outcomes(records(), [run_id])
