"""Fixtures of tiny searches."""

from pathlib import Path

import pytest

from tests.tiny_search import config_of, corpus, places, settings_of, timed_briefly

__all__ = ["config_of", "corpus", "places", "settings_of", "timed_briefly"]


@pytest.fixture(scope="session")
def survey_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For searches that are not about the survey: one for all of them."""
    return tmp_path_factory.mktemp("cache")
