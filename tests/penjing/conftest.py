"""Fixtures of tiny searches."""

from tests.tiny_search import config_of, corpus, places, settings_of, timed_briefly

__all__ = ["config_of", "corpus", "places", "settings_of", "timed_briefly"]
