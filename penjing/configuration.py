"""From preset, file, environment and `--set` to one SearchConfig; every mistake becomes one sentence."""

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from tools.addresses import without_password
from tools.errors import InputError

if TYPE_CHECKING:
    from graph.config import SearchConfig

PRESETS = Path(__file__).parent / "presets"
_PREFIX = "PENJING_"
_OTHERS = ("PENJING_TASK_DATA",)  # what other commands than a search read


def load_config(file: Path | None = None, preset: str | None = None, assignments: Sequence[str] = ()) -> "SearchConfig":
    """The configuration, later ones winning: defaults, preset, file, environment, assignments `key=value`.

    Raises InputError for a file, key or value that cannot be used.
    """
    from pydantic_settings import InitSettingsSource, PydanticBaseSettingsSource

    from graph.config import SearchConfig

    written: dict[str, Any] = {}
    if preset is not None:
        written = _read(_preset_file(preset))
    if file is not None:
        written = _merged(written, _read(file))
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        overrides = _merged(overrides, _assignment(assignment))
    keys = known_keys(SearchConfig)
    for source, values in (("the configuration", written), ("--set", overrides)):
        _require_known(values, keys, source)
    _require_known_environment(os.environ, keys)

    class Layered(SearchConfig):
        """SearchConfig with the file below the environment."""

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: Any,
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=written))

    try:
        return Layered(**overrides)
    except ValidationError as error:
        raise InputError(in_words(error)) from error
    except SettingsError as error:
        raise InputError(f"An environment variable {_PREFIX}* cannot be read: {error}.") from error


def in_words(error: ValidationError) -> str:
    """The first fault of a configuration as a sentence."""
    fault = error.errors()[0]
    key = ".".join(str(part) for part in fault["loc"]) or "the configuration"
    message = fault["msg"].removeprefix("Value error, ")
    found = without_password(fault["input"]) if isinstance(fault["input"], str) else fault["input"]
    shown = "" if isinstance(found, dict) else f" (it is {found!r})"
    return f"{key} cannot be used: {message}{shown}; `penjing settings` explains every setting."


def known_keys(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """All settings as dotted keys, with what they are for; a group of settings is listed too, with its description."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        found[prefix + name] = field.description or ""
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= known_keys(field.annotation, f"{prefix}{name}.")
    return found


def with_assignments(model: type[BaseModel], values: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """`values` for `model`, overridden by assignments `key=value`. Raises InputError for an unknown key."""
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        overrides = _merged(overrides, _assignment(assignment))
    _require_known(overrides, known_keys(model), "--set")
    return _merged(values, overrides)


def _preset_file(name: str) -> Path:
    names = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    if name not in names:
        raise InputError(f"There is no preset {name!r}; the presets are: {', '.join(names)}.")
    return PRESETS / f"{name}.yaml"


def _read(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text())
    except OSError as error:
        raise InputError(f"Cannot read the configuration {file}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file} is no valid YAML: {reason}.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{file} must hold settings as `key: value` lines.")
    return {str(key): value for key, value in values.items()}


def _assignment(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {text!r} must be written key=value, like --set recipe.training_steps=50.")
    try:
        nested: Any = yaml.safe_load(value)
    except yaml.YAMLError:
        nested = value
    if isinstance(nested, dict) and value.rstrip().endswith(":"):
        # An address without its second half, like ray:, is no group of settings.
        nested = value
    for part in reversed(key.strip().split(".")):
        nested = {part: nested}
    return dict(nested)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def _require_known(values: Mapping[str, Any], keys: Mapping[str, str], where: str, prefix: str = "") -> None:
    for name, value in values.items():
        key = f"{prefix}{name}"
        if key not in keys:
            raise InputError(f"There is no setting {key!r} (from {where}){_nearest(key, keys)}")
        if isinstance(value, dict):
            _require_known(value, keys, where, f"{key}.")


def _require_known_environment(environment: Mapping[str, str], keys: Mapping[str, str]) -> None:
    variables = {_PREFIX + key.replace(".", "__").upper(): key for key in keys}
    for variable in environment:
        if variable.startswith(_PREFIX) and variable.upper() not in variables and variable not in _OTHERS:
            raise InputError(
                f"There is no setting for the environment variable {variable}{_nearest(variable, variables)}"
            )


def _nearest(key: str, known: Mapping[str, str]) -> str:
    leaf = {name.rpartition(".")[2]: name for name in known}
    # The name itself, without its group, before names that look like it.
    near = [leaf[key]] if key in leaf else difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    near = near or [leaf[name] for name in difflib.get_close_matches(key.rpartition(".")[2], leaf, n=1, cutoff=0.6)]
    return f"; did you mean {near[0]!r}?" if near else "; `penjing settings` lists them all."
