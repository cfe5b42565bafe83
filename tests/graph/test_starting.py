"""A search begins soon: what coordinates it loads neither torch nor transformers, which workers have for themselves."""

import subprocess
import sys
from pathlib import Path


def test_the_coordinating_process_loads_no_torch() -> None:
    heavy = {"torch", "transformers", "sklearn", "pandas", "datasets"}
    modules = "graph.drive, graph.session, penjing.running_search"
    told = subprocess.run(
        [sys.executable, "-c", f"import sys, {modules}; print({heavy} & set(sys.modules))"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "set()"
