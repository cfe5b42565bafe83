"""Recorded runs, as commands open them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tools.imports import uncollected

if TYPE_CHECKING:
    from graph.config import SearchConfig
    from graph.session import SearchSession
    from memory.records import Records


def open_session(run: str) -> "SearchSession":
    """The run of that id, the beginning of one, or 'latest'. Raises InputError where there is none."""
    with uncollected():
        from graph.session import SearchSession

    return SearchSession.open(run, home_folder())


def reopened_session(run: str, assignments: Sequence[str]) -> "SearchSession":
    """The same, to go on with under settings `key=value`. Raises InputError where these decide results."""
    session = open_session(run)
    if not assignments:
        return session
    from graph.session import SearchSession

    config = changed_config(session.config, assignments)
    session.close()
    return SearchSession.resume(session.run_id, home_folder(), config)


def changed_config(config: "SearchConfig", assignments: Sequence[str]) -> "SearchConfig":
    """The settings with some set anew, `key=value`. Raises InputError for one that cannot be."""
    from pydantic import ValidationError

    from graph.config import SearchConfig
    from penjing.configuration import in_words, with_assignments
    from tools.errors import InputError

    values = with_assignments(SearchConfig, config.model_dump(mode="json"), assignments)
    try:
        return SearchConfig.model_validate(values)
    except ValidationError as error:
        raise InputError(in_words(error)) from error


def open_records() -> "Records":
    """The records of all runs. Raises InputError where nothing was recorded yet."""
    from graph.folder import Home
    from memory.records import Records
    from tools.errors import InputError

    place = Home(home_folder()).records
    if not place.is_file():
        raise InputError(f"Nothing was recorded in {home_folder()} yet; start with: penjing search --preset quick")
    return Records.open(place)


def home_folder() -> Path:
    """The folder of all runs: PENJING_HOME or the user's data directory."""
    from platformdirs import user_data_path

    return Path(os.environ.get("PENJING_HOME") or user_data_path("penjing")).expanduser().absolute()
