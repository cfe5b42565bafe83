"""Rows of `benchmarks.pruning_quality` that were measured: one small file each, in results/pruning_quality/.

A row takes minutes to hours, and no machine lasts for all of them. The files are committed, so any machine goes on with
what others have measured. A file's name ends with a key of all that decides its figures; when one of these changes, the
row is measured anew and its old file goes.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.growing import Bars
from benchmarks.outcome import environment
from benchmarks.quality_rows import Comparison, growing_request
from tools.freed_memory import freed_memory_kept
from tools.pretraining.compute import Compute
from tools.pruning.methods import METHODS
from tools.requests import NUMERICS_VERSION

Precision = Literal["bfloat16", "float32"]
PRECISIONS: tuple[Precision, ...] = ("bfloat16", "float32")
_WITHOUT_EFFECT = {"output", "cache", "corpus", "validation_steps"}
"""What of a request decides no figure. The corpus counts by its fingerprint, which is among a comparison's facts."""
_ELSEWHERE = {"recipe": {"precision"}}
"""What of a request decides figures and is among a comparison's facts already."""


@dataclass(frozen=True)
class Row:
    """One thing to measure."""

    method: str
    share: float
    tokens: int
    seed: int
    measure: Callable[[Comparison], dict[str, Any]]
    growing: dict[str, Any] | None = None
    """Changes of the recipe where the figures hang on how the model, or its design, is grown."""

    def key(self, comparison: Comparison) -> str:
        """Identity of the figures, the same on every machine of this precision."""
        parts = [NUMERICS_VERSION, self.method, self.share, self.tokens, self.seed, comparison.facts()]
        if self.growing is not None:
            left_out: dict[str, Any] = {**dict.fromkeys(_WITHOUT_EFFECT, True), **_ELSEWHERE}
            parts.append(growing_request(comparison, self.growing).model_dump(mode="json", exclude=left_out))
        if self.method in METHODS:
            parts.append(repr(METHODS[self.method]))
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def place(self, base: Comparison, folder: Path) -> Path:
        """The file that keeps the figures; `base` is the comparison of all rows."""
        comparison = self._of(base)
        return folder / f"{self._stem(comparison)}_{self.key(comparison)}.json"

    def measured(self, base: Comparison, folder: Path, bars: Bars) -> dict[str, Any]:
        """The figures, from their file where it is there."""
        comparison, path = self._of(base), self.place(base, folder)
        with bars.run(self.label) as show:
            if not path.is_file():
                with freed_memory_kept():
                    figures = self.measure(comparison.reporting(show))
                self._keep(figures, comparison, path)
            return read(path)

    @property
    def label(self) -> str:
        return f"{self.method}, {self.share:.0%}, {self.tokens:,} tokens, seed {self.seed}"

    def _of(self, base: Comparison) -> Comparison:
        return base.of(self.share, self.tokens, self.seed)

    def _stem(self, comparison: Comparison) -> str:
        method = re.sub(r"[^a-z0-9]+", "-", self.method)
        compute = comparison.compute
        return f"{method}_{100 * self.share:g}_{self.tokens}_{self.seed}_{compute.device}_{compute.precision}"

    def _keep(self, figures: dict[str, Any], comparison: Comparison, path: Path) -> None:
        known = {"method": self.method, "share": self.share, "budget": self.tokens, "seed": self.seed}
        where = {name: value for name, value in environment().items() if name in ("date", "processor", "gpu", "torch")}
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(f"{self._stem(comparison)}_*.json"):
            old.unlink()
        whole = {**known, **figures, "precision": comparison.compute.precision, **where}
        path.write_text(json.dumps(whole, indent=1) + "\n")


def read(path: Path) -> dict[str, Any]:
    """The figures of one row."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def kept_rows(rows: Iterable[Row], base: Comparison, folder: Path) -> list[Row | dict[str, Any]]:
    """The figures of each of `rows` that is kept, and in its place the row itself where it is not.

    Rows of one size and budget are compared, so these are all of one precision: that of which more are kept, this
    machine's where as many are. A row that is kept in another precision only counts as not kept.
    """
    wanted = list(rows)
    own = base.compute.precision
    found: list[Row | dict[str, Any]] = []
    for share, tokens in dict.fromkeys((row.share, row.tokens) for row in wanted):
        panel = [row for row in wanted if (row.share, row.tokens) == (share, tokens)]
        candidates = [
            [_kept_or_row(row, replace(base, compute=Compute(base.compute.device, precision)), folder) for row in panel]
            for precision in sorted(PRECISIONS, key=lambda name: name != own)
        ]
        found += max(candidates, key=lambda entries: sum(isinstance(entry, dict) for entry in entries))
    return found


def _kept_or_row(row: Row, base: Comparison, folder: Path) -> Row | dict[str, Any]:
    path = row.place(base, folder)
    return read(path) if path.is_file() else row
