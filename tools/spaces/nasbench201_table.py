"""What the cells of NAS-Bench-201 are worth: the user's own table, or the archive of NATS-Bench."""

import io
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tools.errors import InputError
from tools.packed_files import open_packed
from tools.spaces.nasbench201 import Cell, NASBench201Space

if TYPE_CHECKING:
    from pyarrow import Table  # type: ignore[import-untyped]

_DATASETS = ("cifar10", "cifar100", "ImageNet16-120")
_ENDINGS = ".csv, .csv.gz, .parquet or .parquet.gz"


@dataclass(frozen=True)
class TableColumns:
    """Names of the three columns that a table needs: official string of the cell, two accuracies in per cent."""

    cell: str = "arch_str"
    validation: str = "c10_val_200ep"
    test: str = "c10_test_200ep"


class NASBench201Table:
    """Validation and test accuracy of all 15,625 cells, in per cent.

    Searchers see the validation accuracy only; the test accuracy is for the report.
    """

    def __init__(self, validation: dict[str, float], test: dict[str, float]) -> None:
        self._validation, self._test = validation, test

    def validation(self, cell: Cell) -> float:
        """Accuracy that a search may learn from."""
        return self._validation[cell.string]

    def test(self, cell: Cell) -> float:
        """Accuracy that a search must not see."""
        return self._test[cell.string]

    @classmethod
    def read(cls, path: Path, columns: TableColumns | None = None) -> "NASBench201Table":
        """The table in a CSV or Parquet file, also gzipped.

        It has one row for each cell, and the columns that `columns` names: the official string, like
        `|none~0|+|none~0|none~1|+|none~0|none~1|none~2|`, and two numbers. Other columns are ignored. Raises InputError
        where the file is no such table, with what is missing.
        """
        columns = columns or TableColumns()
        table = _open(path)
        for name in (columns.cell, columns.validation, columns.test):
            if name not in table.column_names:
                raise InputError(
                    f"{path} has no column {name!r}; it has {', '.join(table.column_names)}: "
                    "name its columns for the cell and for validation and test accuracy."
                )
        validation = _numbers(table, columns.validation, path)
        test = _numbers(table, columns.test, path)
        return cls.of_rows(zip(table[columns.cell].to_pylist(), validation, test, strict=True), str(path))

    @classmethod
    def of_rows(cls, rows: Iterable[tuple[object, float, float]], where: str) -> "NASBench201Table":
        """The table of rows of official string, validation and test accuracy. Raises InputError as `read` does."""
        validation: dict[str, float] = {}
        test: dict[str, float] = {}
        for number, (text, on_validation, on_test) in enumerate(rows, start=1):
            try:
                cell = Cell.from_string(str(text))
            except ValueError as error:
                raise InputError(f"{where}, row {number}: {error}; write |op~0|+|op~0|op~1|+|...|.") from error
            if cell.string in validation:
                raise InputError(f"{where}, row {number}: the cell {cell.string} is there twice; keep one row of it.")
            # Written so that NaN fails too.
            if not (0 <= on_validation <= 100 and 0 <= on_test <= 100):
                raise InputError(f"{where}, row {number}: an accuracy is not between 0 and 100 per cent; correct it.")
            validation[cell.string], test[cell.string] = on_validation, on_test
        missing = [cell.string for cell in NASBench201Space().designs() if cell.string not in validation]
        if missing:
            raise InputError(
                f"{where} lacks {len(missing):,} of the 15,625 cells, first {missing[0]}; a table needs all of them."
            )
        for name, values in (("validation", validation), ("test", test)):
            if max(values.values()) <= 1:
                raise InputError(f"{where}: {name} accuracies are at most 1; write them in per cent.")
        return cls(validation, test)

    @classmethod
    def from_nats_bench(cls, path: Path, dataset: str = "cifar10") -> "NASBench201Table":
        """The table of the topology space in an archive of NATS-Bench, 200 epochs, mean of the trained seeds.

        `path` is the folder or file that `nats_bench.create` takes, `dataset` cifar10, cifar100 or ImageNet16-120. On
        cifar10 the validation accuracy is of training without the validation part. The archive is pickled: open only
        one that you trust. Raises InputError where the package or the archive is absent.
        """
        try:
            import nats_bench  # type: ignore[import-not-found]
        except ImportError as error:
            raise InputError("Reading an archive of NATS-Bench needs its package: pip install nats_bench.") from error
        if not path.exists():
            raise InputError(f"There is no archive of NATS-Bench at {path}; check the path.")
        if dataset not in _DATASETS:
            raise InputError(f"NATS-Bench has no data set {dataset!r}; it has {', '.join(_DATASETS)}.")
        try:
            archive = nats_bench.create(str(path), "tss", fast_mode=path.is_dir(), verbose=False)
        except (OSError, EOFError, ValueError) as error:
            raise InputError(f"{path} is no archive of NATS-Bench's topology space: {error}.") from error
        learnt_from = "cifar10-valid" if dataset == "cifar10" else dataset

        def accuracy(index: int, name: str, side: str) -> float:
            return float(archive.get_more_info(index, name, hp="200", is_random=False)[f"{side}-accuracy"])

        rows = (
            (archive.arch(index), accuracy(index, learnt_from, "valid"), accuracy(index, dataset, "test"))
            for index in range(len(archive))
        )
        return cls.of_rows(rows, str(path))


def _open(path: Path) -> "Table":
    import pyarrow
    from pyarrow import csv, parquet

    packed = path.suffix.lower() == ".gz"
    ending = Path(path.stem).suffix.lower() if packed else path.suffix.lower()
    if ending not in (".csv", ".parquet"):
        raise InputError(f"{path} is of unknown kind; a table of NAS-Bench-201 is {_ENDINGS}.")
    try:
        with open_packed(path) as file:
            stream = io.BytesIO(file.read())
        return csv.read_csv(stream) if ending == ".csv" else parquet.read_table(stream)
    except FileNotFoundError as error:
        raise InputError(f"There is no table {path}; check the path.") from error
    except (OSError, EOFError, zlib.error, pyarrow.ArrowException) as error:
        raise InputError(f"{path} cannot be read: {error}; check the file or fetch it again.") from error


def _numbers(table: "Table", name: str, path: Path) -> list[float]:
    import pyarrow

    try:
        values = table[name].cast(pyarrow.float64()).to_pylist()
    except pyarrow.ArrowException as error:
        raise InputError(f"{path}: the column {name!r} holds something else than numbers ({error}).") from error
    return [float("nan") if value is None else value for value in values]
