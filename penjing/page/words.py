"""Words of users and of language models on the page: always as text, never as HTML or Markdown."""

import re

import streamlit as st

_MARKS = re.compile(r"([!-/:-@\[-`{-~])")


def as_markdown(text: str) -> str:
    """Markdown that shows `text` as it is, on one line: every mark that could mean something is escaped."""
    return _MARKS.sub(r"\\\1", " ".join(text.split()))


def show_text(text: str) -> None:
    """`text` as it is; lines that are too long go on below."""
    st.code(text, language=None, wrap_lines=True)


def show_note(text: str) -> None:
    """A remark in small letters, as dark as all others so that everybody can read it."""
    st.markdown(f":small[{as_markdown(text)}]")


def show_error(error: Exception) -> None:
    """What cannot be done and why, in its own sentence."""
    st.error(as_markdown(str(error)))
