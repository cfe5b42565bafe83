"""Recorded runs, as commands open them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graph.session import SearchSession


def open_session(run: str) -> "SearchSession":
    """The run of that id, the beginning of one, or 'latest'. Raises InputError where there is none."""
    from graph.session import SearchSession

    return SearchSession.open(run, home_folder())


def home_folder() -> Path:
    """The folder of all runs: PENJING_HOME or the user's data directory."""
    from platformdirs import user_data_path

    return Path(os.environ.get("PENJING_HOME") or user_data_path("penjing")).expanduser().absolute()
