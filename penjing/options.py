"""Values of command-line options: sizes, lists of types, JSON files, and where caches are."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tools.errors import InputError

if TYPE_CHECKING:
    from tools.pruning.groups import PruningType


def count_of(text: str, option: str) -> int:
    """A number like 100M, 1.5B or 50,000. Raises InputError that names the option."""
    from graph.config import parse_size

    try:
        return cast(int, parse_size(text))
    except ValueError as error:
        raise InputError(f"{option} {text!r} cannot be used: {error}.") from error


def types_of(text: str) -> "tuple[PruningType, ...]":
    """Pruning types from a list with commas. Raises InputError for one that does not exist."""
    from tools.pruning.groups import PRUNING_TYPES

    names = {name.strip() for name in text.split(",")}
    unknown = names - set(PRUNING_TYPES)
    if unknown:
        raise InputError(
            f"--types {text!r} cannot be used: there is no type {min(unknown)!r}; the types are: "
            f"{', '.join(PRUNING_TYPES)}."
        )
    return tuple(name for name in PRUNING_TYPES if name in names)


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises InputError where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"{path} is no valid JSON: {error}.") from error


def cache_folder() -> Path:
    """The folder of converted models and packed corpora: PENJING_CACHE or the user's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("PENJING_CACHE") or user_cache_path("penjing")).expanduser().absolute()
