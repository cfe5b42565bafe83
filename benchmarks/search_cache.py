"""Searches that were finished: one file each, so that a benchmark that was interrupted goes on where it was."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from agents.proposers import Tried
from benchmarks.table_search import Contends, Searched
from memory.ledger import Ledger
from tools.spaces import Cell, NASBench201Space
from tools.spaces.nasbench201_table import NASBench201Table


class SearchCache:
    """Finished searches on one table, in one folder; without a folder nothing is kept."""

    def __init__(self, folder: Path | None, table: NASBench201Table) -> None:
        self._folder, self._table = folder, table
        values = [(table.validation(cell), table.test(cell)) for cell in NASBench201Space().designs()]
        self._digest = hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]

    def search(self, name: str, contender: Contends, trials: int, seed: int) -> tuple[Searched, float]:
        """The search and the seconds that it took, from its file where there is one."""
        path = None
        if self._folder is not None and contender.kept is not None:
            decided = {"name": name, "trials": trials, "seed": seed, "table": self._digest, **contender.kept}
            key = hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:16]
            path = self._folder / f"{name}-{trials}-{seed}-{key}.json"
            if path.is_file():
                return self._read(path)
        started = time.perf_counter()
        found = contender.search(self._table, trials, seed)
        seconds = time.perf_counter() - started
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(_document(found, seconds)))
            partial.replace(path)
        return found, seconds

    def _read(self, path: Path) -> tuple[Searched, float]:
        document = json.loads(path.read_text())
        cells = [Cell.from_string(text) for text in document["cells"]]
        history = tuple(Tried(turn, cell, 100.0 - self._table.validation(cell)) for turn, cell in enumerate(cells))
        ledger = document["ledger"]
        tokens = document.get("tokens")
        found = Searched(
            history,
            None if ledger is None else Ledger.model_validate(ledger),
            None if tokens is None else (tokens[0], tokens[1]),
        )
        return found, document["seconds"]


def _document(found: Searched, seconds: float) -> dict[str, Any]:
    return {
        "cells": [tried.design.string for tried in found.history],
        "ledger": None if found.ledger is None else found.ledger.model_dump(mode="json"),
        "tokens": found.tokens,
        "seconds": seconds,
    }
