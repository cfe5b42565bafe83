"""Values of command-line options: sizes, lists of types, designs in JSON files, names of pictures."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tools.errors import InputError

if TYPE_CHECKING:
    from tools.pruning.groups import PruningType


def count_of(text: str, option: str) -> int:
    """A number like 100M, 1.5B or 50,000. Raises InputError that names the option."""
    from graph.sizes import parse_size

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


@dataclass(frozen=True)
class ChosenDesign:
    """A design to grow, and what the run that it is from was about, if it is from one."""

    name: str
    architecture: Any
    source: str | None = None
    corpus: str | None = None


def chosen_design(text: str) -> ChosenDesign:
    """The design of a trial, RUN/TRIAL, or that in a JSON file. Raises InputError where there is none."""
    run, slash, number = text.rpartition("/")
    if not slash or not number.isdigit() or Path(text).expanduser().is_file():
        path = Path(text).expanduser()
        return ChosenDesign(path.stem.removesuffix(".design"), read_design(path))
    from penjing.sessions import open_session

    session = open_session(run)
    try:
        design, config = session.trial(int(number)).architecture, session.config
        return ChosenDesign(f"{session.run_id}-{number}", design, config.source, config.corpus)
    finally:
        session.close()


def read_design(path: Path) -> Any:
    """A design in a JSON file, as `result.json` of a run has it under "architecture".

    Raises InputError where it cannot be read, or where attention cannot take a layer's shape.
    """
    from tools.pruning.legality import layer_shape

    try:
        design = json.loads(path.read_text(encoding="utf-8"))
        for number, layer in enumerate(design["layers"]):
            names = ("num_attention_heads", "num_key_value_heads", "intermediate_size")
            heads, groups, width = (int(layer[name]) for name in names)
            layer_shape(number, heads, groups, width)
        return design
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"{path} is no valid JSON: {error}.") from error
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no design: it needs fixed, hidden_size and layers, see docs/pretraining.md."
        ) from error


def require_picture(picture: Path) -> None:
    """Raises InputError where no figure can be written there, so that it is known before long work."""
    if picture.suffix.lower() not in (".png", ".svg"):
        raise InputError(f"{picture} is no name of a picture: let it end with .png or .svg.")
    if not picture.expanduser().absolute().parent.is_dir():
        raise InputError(f"There is no folder {picture.expanduser().absolute().parent} for the picture; make it first.")
