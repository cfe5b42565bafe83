"""What a model directory says of where its model comes from: name, licence."""

import re
from pathlib import Path
from typing import Any

import yaml

from tools.embedded import EMBEDDED_NAME
from tools.export.model_card import Origin

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SNAPSHOT = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
_EMBEDDED_FOLDER = re.compile(rf"{EMBEDDED_NAME}-[0-9a-f]{{12}}-\d+")
_LICENCES = (("Apache License", "apache-2.0"), ("MIT License", "mit"))

EMBEDDED = Origin(
    name="HuggingFaceTB/SmolLM2-135M-Instruct",  # pragma: allowlist secret
    on_hub=True,
    license="apache-2.0",
    license_found_in="the GGUF file of the embedded model",
)


def origin_of(path: Path, name: str | None = None) -> Origin:
    """Where the model in the directory `path` comes from; `name` is what it was asked for by, where it was.

    A local directory gives its last part alone as a name. Hub names are recognised as such.
    """
    if name == EMBEDDED_NAME or (name is None and _EMBEDDED_FOLDER.fullmatch(path.name)):
        return EMBEDDED
    header = _header(path / "README.md")
    stated = header.get("license")
    found = (stated, "the README.md of the model") if isinstance(stated, str) else _license_of_text(path)
    hub_name = _hub_name(path, name)
    return Origin(name=hub_name or path.name, on_hub=hub_name is not None, license=found[0], license_found_in=found[1])


def public_name(name: str) -> str:
    """A source or corpus as others may read it: hub and embedded names as they are, of a path its last part."""
    path = Path(name).expanduser()
    return path.name if path.is_absolute() or path.exists() else name


def _hub_name(path: Path, name: str | None) -> str | None:
    if name is not None:
        plain = name.partition("@")[0]
        return plain if _HUB_NAME.fullmatch(plain) and not Path(name).expanduser().exists() else None
    for part in path.parts:
        if snapshot := _SNAPSHOT.fullmatch(part):
            return f"{snapshot[1]}/{snapshot[2]}"
    return None


def _header(readme: Path) -> dict[str, Any]:
    """The YAML at the top of a model card; empty where there is none that can be read."""
    try:
        text = readme.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    parts = text.split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return {}
    try:
        found = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def _license_of_text(path: Path) -> tuple[str | None, str | None]:
    for file in sorted(path.glob("LICENSE*")):
        try:
            beginning = file.read_text(encoding="utf-8", errors="replace")[:400]
        except OSError:
            continue
        for words, name in _LICENCES:
            if words in beginning:
                return name, f"{file.name} beside the model"
    return None, None
