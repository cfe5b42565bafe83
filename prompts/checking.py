"""Looks a user's template over against the packaged one of its name: what cannot work, and what may not be meant."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prompts.library import PromptError, PromptLibrary

_HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    """Something about a template: an `error` refuses it, a `warning` does not."""

    name: str
    level: Literal["error", "warning"]
    words: str
    line: int | None = None


def check(library: PromptLibrary, name: str) -> list[Finding]:
    """All findings on the template in use under this name, errors first; none where it is the packaged one."""
    try:
        path = library.path(name)
    except PromptError as error:
        return [Finding(name, "error", error.reason)]
    try:
        header = PromptLibrary(path.parent).header(name)
    except PromptError as error:
        return [Finding(name, "error", error.reason, error.line)]
    try:
        packaged = library.packaged(name)
    except PromptError:
        near = difflib.get_close_matches(name, PromptLibrary().names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return [Finding(name, "warning", f"no agent asks for a prompt of this name{hint}")]
    if path == packaged:
        return []
    own, usual = _body(path), _body(packaged)
    plain = PromptLibrary().header(name)
    found: list[Finding] = []
    if header.answer != plain.answer:
        found.append(Finding(name, "error", f"its answer is {header.answer}, but what is read is {plain.answer}"))
    if plain.answer is not None and "json" not in own.lower():
        found.append(Finding(name, "warning", "answers are read as JSON, and it does not ask for that"))
    missing = [title for title in _HEADING.findall(usual) if title not in _HEADING.findall(own)]
    found += [Finding(name, "warning", f"the section {title!r} of the packaged one is missing") for title in missing]
    unused = sorted(set(plain.variables) - set(header.variables))
    if unused:
        found.append(Finding(name, "warning", f"it does not show: {', '.join(unused)}"))
    return sorted(found, key=lambda one: one.level)


def difference(library: PromptLibrary, name: str) -> list[str]:
    """The lines of a unified diff from the packaged template to the one in use; none where they are the same."""
    packaged, path = library.packaged(name), library.path(name)
    before, after = packaged.read_text(encoding="utf-8"), path.read_text(encoding="utf-8")
    return list(
        difflib.unified_diff(before.splitlines(), after.splitlines(), f"packaged/{name}.md", str(path), lineterm="")
    )


def _body(path: Path) -> str:
    return path.read_text(encoding="utf-8").split("\n---", 1)[-1]
