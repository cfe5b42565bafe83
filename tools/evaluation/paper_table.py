"""Table 2 of EfficientLLM (arXiv 2502.06663) as printed there, to stand beside one's own figures.

The paper used a harness of its own and does not say where it takes `acc` and where `acc_norm`; its figures on HellaSwag
and OpenBookQA are in the range of `acc_norm`. So a difference of a point to one's own figures means little.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

SOURCE = "EfficientLLM, arXiv 2502.06663, Table 2: the paper's own harness"

_FILE = Path(__file__).parent / "efficientllm_table2.csv"
_LETTERS = {"M": 1e6, "B": 1e9}


@dataclass(frozen=True)
class PaperRow:
    """One model of the table: training tokens as printed, accuracies in per cent, None where the table has none."""

    model: str
    tokens: str
    parameters: str
    accuracies: dict[str, float | None]
    average: float

    @property
    def parameter_count(self) -> float:
        """`parameters` as a number."""
        return float(self.parameters[:-1]) * _LETTERS[self.parameters[-1]]


def paper_rows() -> tuple[PaperRow, ...]:
    """All 26 models, in the order of the table."""
    with _FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    named = ("model", "tokens", "parameters", "average")
    return tuple(
        PaperRow(
            model=row["model"],
            tokens=row["tokens"],
            parameters=row["parameters"],
            accuracies={task: float(value) if value else None for task, value in row.items() if task not in named},
            average=float(row["average"]),
        )
        for row in rows
    )
