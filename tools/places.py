"""Where things are kept when nobody says otherwise."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder of converted models and packed corpora: PENJING_CACHE or the user's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("PENJING_CACHE") or user_cache_path("penjing")).expanduser().absolute()
