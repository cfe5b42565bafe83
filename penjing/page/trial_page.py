"""The page of one trial: where it comes from, what was said for it, its pictures, and what was learnt."""

import streamlit as st

from graph.story import Story
from graph.trace import TracedCall
from penjing.html_report import story_text
from penjing.page.charts import show_picture
from penjing.page.places import open_trial
from penjing.page.reading import chosen_run, records, snapshot_of, story_of, told
from penjing.page.words import as_markdown, show_note, show_text
from penjing.trace_lines import call_lines
from tools.errors import InputError


@told
def show_trial() -> None:
    """The trial of the address, else the last one."""
    run = chosen_run()
    snapshot = snapshot_of(run.id)
    if not snapshot.trials:
        st.title("Trial")
        st.info(as_markdown(f"Run {run.id} has no trial yet."))
        return
    number = _chosen(snapshot.trials[-1].number)
    st.title(as_markdown(f"Trial {number} of {run.id}"))
    numbers = [trial.number for trial in snapshot.trials]
    snapshot.trial(number)
    other = st.selectbox("Trial", numbers, index=numbers.index(number), key=f"another than {number}")
    if other != number:
        open_trial(run.id, other)
    story = story_of(run.id, number)
    _origin(story)
    shapes, training, drops = snapshot.trial_pictures(number)
    show_picture(shapes)
    left, right = st.columns(2)
    with left:
        show_picture(training)
    with right:
        show_picture(drops)
    _said(story)
    with st.expander("The whole story as text"):
        show_text(story_text(story))


def _chosen(last: int) -> int:
    given = st.query_params.get("trial", str(last))
    if not given.isdecimal():
        raise InputError(f"{given!r} is no number of a trial.")
    return int(given)


def _origin(story: Story) -> None:
    st.markdown(f"**{as_markdown(story.outcome)}**")
    origin = ", ".join(f"trial {one.number}" for one in story.based_on)
    stage = story.stage.replace("_", " ")
    st.markdown(
        as_markdown(f"By {story.proposer} in turn {story.turn} ({stage}){', from ' + origin if origin else ''}.")
    )
    versions = dict.fromkeys(call.prompt_hash for call in story.conversation if call.prompt_hash is not None)
    if versions:
        words = ", ".join(f"{records().prompt(version).name} {version}" for version in versions)
        st.markdown(as_markdown(f"Asked with these versions of templates: {words}."))
    expected = [] if story.forecast is None else [f"saliency cut {story.forecast:.3g}"]
    if story.expected_score is not None and story.expected_deviation is not None:
        expected.append(f"the surrogate expected {abs(story.expected_score):.4f} ± {story.expected_deviation:.4f}")
    if expected:
        st.markdown(as_markdown(f"Forecast: {', '.join(expected)}."))
    show_text(f"{story.design}; {story.parameters:,} parameters")


def _said(story: Story) -> None:
    st.header("What its author said")
    for attempt in story.attempts:
        lines = [f"answer {attempt.attempt + 1}: {attempt.outcome}"]
        lines += [f"because: {words}" for words in attempt.rationale]
        lines += [f"checker: {words}" for words in attempt.problems]
        lines += [f"changed: {words}" for words in attempt.notes]
        show_text("\n".join(lines))
    if not story.conversation:
        show_note("No chat model was asked for this design.")
    before: TracedCall | None = None
    for call in story.conversation:
        with st.expander(as_markdown(f"Call {call.id}: {call.agent} asks {call.model} for {call.schema_name}")):
            show_text("\n".join(line.plain for line in call_lines(call, before)))
        before = call
