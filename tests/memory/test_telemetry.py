"""The vector store speaks to nobody."""

import json
import os
import subprocess
import sys
from pathlib import Path

from memory.records import Records

ROOT = Path(__file__).parents[2]


def test_opening_filling_and_asking_opens_no_connection(
    filled: Records, tmp_path: Path, places: tuple[Path, Path]
) -> None:
    program = Path(__file__).with_name("unheard.py")
    said = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "records.db"), *map(str, places)],
        # As of somebody who wants telemetry elsewhere: the store's own settings decide.
        env={**os.environ, "PYTHONPATH": str(ROOT), "ANONYMIZED_TELEMETRY": "True"},
        check=True,
        capture_output=True,
        text=True,
    )
    told = json.loads(said.stdout)
    assert told["noticed"] == ["socket.connect ('127.0.0.1', 9)"], "what it did would have been noticed"
    assert (told["spoken"], told["sockets"], told["found"]) == ([], [], 6)
