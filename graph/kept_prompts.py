"""A run's own templates and guidance among its artifacts, so that another machine goes on with them."""

import shutil
import tempfile
from pathlib import Path

from graph.folder import RunFolder
from tools.artifacts import Artifacts, version_of

_AGREED = "prompts.version"
"""The version that was the same here and there, the last time that both were looked at."""


def name_of_prompts(run_id: str) -> str:
    """Of a run's own templates and guidance among the artifacts."""
    return f"runs/{run_id}/prompts"


def agree_on_prompts(artifacts: Artifacts, folder: RunFolder) -> None:
    """Have the same templates and guidance here and among the run's artifacts.

    What was written here since they agreed goes there; what another machine wrote meanwhile comes here, but where both
    did, it is given up for what is here. Raises InputError where the place cannot be used.
    """
    name, agreed = name_of_prompts(folder.path.name), folder.path / _AGREED
    with tempfile.TemporaryDirectory() as beside:
        copy = Path(beside) / "prompts"
        copy.mkdir()
        _copy(folder, copy)
        here, there = version_of(copy), artifacts.version(name)
        # A folder without any, which never had some, is another machine's.
        last = agreed.read_text() if agreed.is_file() else version_of(Path(beside) / "nothing")
        if there is not None and there != here and here == last:
            if artifacts.fetch(name, copy):
                _take(copy, folder)
                here = there
        elif here not in (last, there):
            artifacts.keep(copy, name, renew=True)
    folder.path.mkdir(parents=True, exist_ok=True)
    agreed.write_text(here)


def _copy(folder: RunFolder, copy: Path) -> None:
    if folder.guidance.is_file():
        shutil.copyfile(folder.guidance, copy / folder.guidance.name)
    if folder.prompts.is_dir():
        shutil.copytree(folder.prompts, copy / folder.prompts.name)


def _take(copy: Path, folder: RunFolder) -> None:
    """In place of what is here."""
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.guidance.unlink(missing_ok=True)
    shutil.rmtree(folder.prompts, ignore_errors=True)
    for path in copy.iterdir():
        shutil.move(path, folder.path / path.name)
