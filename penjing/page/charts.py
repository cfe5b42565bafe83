"""Pictures on the page, with what they show in words below, and the trial that was clicked on."""

from typing import Any, cast

import streamlit as st

from penjing.figures import Picture, plotly_figure
from penjing.page.words import as_markdown, show_note


def show_picture(picture: Picture, clicks: bool = False) -> int | None:
    """Draw it; with `clicks` the number of the trial that was clicked on, once for each click."""
    st.header(as_markdown(picture.title))
    if picture.is_empty:
        st.info(as_markdown(picture.summary))
        return None
    dark = st.context.theme.type == "dark"
    key, config = f"picture-{picture.name}", {"displaylogo": False}
    if not clicks:
        st.plotly_chart(plotly_figure(picture, dark), key=key, config=config, theme="streamlit")
        chosen = None
    else:
        event = st.plotly_chart(
            plotly_figure(picture, dark),
            key=key,
            config=config,
            theme="streamlit",
            on_select="rerun",
            selection_mode="points",
        )
        chosen = _clicked(cast("dict[str, Any]", event))
    show_note(picture.summary)
    return chosen


def _clicked(event: dict[str, Any]) -> int | None:
    points = event.get("selection", {}).get("points", [])
    found = points[0].get("customdata") if points else None
    number = found[0] if isinstance(found, list) and found else found
    return number if isinstance(number, int) else None
