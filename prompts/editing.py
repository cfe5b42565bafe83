"""Saving an edited template: only one that can be used, so that a running search never meets a broken one."""

import tempfile
from pathlib import Path

from prompts.checking import Finding, check
from prompts.library import PromptLibrary


def save_template(folder: Path, name: str, text: str) -> list[Finding]:
    """Write `text` as the template `name` into `folder`, made where it is not there; what there is to say of it.

    Nothing is written where one of the findings is an error.
    """
    with tempfile.TemporaryDirectory() as aside:
        (Path(aside) / f"{name}.md").write_text(text, encoding="utf-8", newline="\n")
        found = check(PromptLibrary(Path(aside)), name)
    if any(finding.level == "error" for finding in found):
        return found
    folder.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: the run may read it just now.
    beside = folder / f".{name}.new"
    beside.write_text(text, encoding="utf-8", newline="\n")
    beside.replace(folder / f"{name}.md")
    return found
