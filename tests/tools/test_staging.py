"""Directories that replace old ones, under processes that are killed at each step of it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tools.staging import settle

PROGRAM = """
import os, shutil, signal, sys
from pathlib import Path
from tools import staging

folder, moment, calls = Path(sys.argv[1]), sys.argv[2], []

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def replace(self, target, whole=Path.replace):
    calls.append(target)
    if moment == f"renaming {len(calls)}":
        die()
    return whole(self, target)

Path.replace = replace
if moment == "removing":
    staging.shutil.rmtree = lambda *arguments, **options: die()
with staging.staged_directory(folder, overwrite=True) as staged:
    (staged / "text").write_text("ne")
    if moment == "writing":
        die()
    (staged / "text").write_text("new")
"""


@pytest.mark.parametrize(
    ("moment", "expected"), [("writing", "old"), ("renaming 1", "old"), ("renaming 2", "new"), ("removing", "new")]
)
def test_what_a_killed_process_leaves(tmp_path: Path, moment: str, expected: str) -> None:
    folder = tmp_path / "folder[1]"
    folder.mkdir()
    (folder / "text").write_text("old")
    (tmp_path / ".folder[1].note").write_text("somebody else's")
    died = subprocess.run([sys.executable, "-c", PROGRAM, str(folder), moment], check=False)
    assert died.returncode == -signal.SIGKILL and len(list(tmp_path.iterdir())) > 2
    settle(folder)
    assert (folder / "text").read_text() == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == [".folder[1].note", "folder[1]"]
    settle(folder)
    assert (folder / "text").read_text() == expected


def test_what_was_never_whole_is_not_there(tmp_path: Path) -> None:
    died = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / "folder"), "writing"], check=False)
    assert died.returncode == -signal.SIGKILL and list(tmp_path.iterdir())
    settle(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []
