"""Both spaces keep the contract; what is special of each; the user's own table of NAS-Bench-201."""

import gzip
import random
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import csv, parquet

from tests.language_model_space import language_model
from tests.tools.space_contract import SpaceContract
from tools.architecture import Architecture
from tools.errors import InputError
from tools.spaces import SPACES, Cell, CellDraft, DesignDraft, NASBench201Space, PrunedLMSpace, SpanDraft
from tools.spaces.nasbench201 import OPERATIONS
from tools.spaces.nasbench201_table import NASBench201Table, TableColumns

SHARED_TABLE = Path(__file__).parents[3] / "shared" / "data" / "nas" / "nasbench201_cifar10.csv.gz"
NOTHING = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


class _PrunedLM(SpaceContract):
    def illegal_draft(self, design: Architecture, rng: random.Random) -> DesignDraft:
        """A width that is no multiple of the step, a layer that is not there, or the whole source."""
        last, shape = len(design.layers) - 1, design.layers[0]
        widths = {"num_key_value_heads": shape.num_key_value_heads, "intermediate_size": shape.intermediate_size}
        assert isinstance(self.space, PrunedLMSpace)
        whole = self.space.source.layers[0]
        drafts = [
            DesignDraft(hidden_size=design.hidden_size - 1, spans=()),
            DesignDraft(
                hidden_size=design.hidden_size,
                spans=(SpanDraft(first_layer=0, last_layer=last + rng.randint(1, 5), **widths),),
            ),
            DesignDraft(
                hidden_size=self.space.source.hidden_size,
                spans=(
                    SpanDraft(
                        first_layer=0,
                        last_layer=last,
                        num_key_value_heads=whole.num_key_value_heads,
                        intermediate_size=self.space.intermediate_sizes[-1],
                    ),
                ),
            ),
        ]
        return rng.choice(drafts)


class TestPrunedLM(_PrunedLM):
    space = language_model()


class TestUniformPrunedLM(_PrunedLM):
    space = language_model(uniform=True)


class TestNASBench201(SpaceContract):
    space = NASBench201Space()

    def illegal_draft(self, design: Cell, rng: random.Random) -> CellDraft:
        names: list[str] = list(design.operations)
        kind = rng.randrange(3)
        if kind == 0:
            names[rng.randrange(6)] = rng.choice(["conv_3x3", "", "Nor_Conv_3x3", "7"])
        elif kind == 1:
            del names[rng.randrange(6) :]
        else:
            names += ["none"]
        return CellDraft(operations=tuple(names))


def test_every_registered_space_is_tested() -> None:
    tested = {type(contract.space) for contract in (TestPrunedLM, TestUniformPrunedLM, TestNASBench201)}
    assert tested == set(SPACES)
    assert len({space.name for space in SPACES}) == len(SPACES)


def test_chance_fills_the_whole_band_of_sizes_and_saliency_plays_no_part() -> None:
    one_hidden_size = {"hidden_multiple": 64}
    space = language_model(**one_hidden_size)
    designs = [space.sample(random.Random(seed)) for seed in range(200)]
    smallest, largest = space.settings.min_parameters, space.settings.max_parameters
    shares = [(design.parameters - smallest) / (largest - smallest) for design in designs]
    assert [sum(low <= share < low + 0.25 for share in shares) > 25 for low in (0, 0.25, 0.5, 0.75)] == [True] * 4
    other = language_model(**one_hidden_size)
    other.designer = other._filler = None  # type: ignore[assignment]
    assert [other.sample(random.Random(seed)) for seed in range(200)] == designs


def test_a_band_that_chance_does_not_meet_is_filled_by_saliency() -> None:
    """One hidden size, and a band narrower than any step."""
    whole = language_model().source.parameters
    space = language_model(min_parameters=whole * 8 // 10 - 1, max_parameters=whole * 8 // 10, hidden_multiple=64)
    design = space.sample(random.Random(0))
    assert design.parameters <= space.settings.max_parameters
    assert {space.sample(random.Random(seed)) for seed in range(20)} != {design}


def test_limits_beside_the_parameters_hold_for_what_searchers_do() -> None:
    free = language_model(min_parameters=0)
    sizes = sorted(free.sample(random.Random(seed)).kv_cache_bytes_per_token() for seed in range(40))
    context = 100_000
    limit = context * sizes[10] / 1e6
    space = language_model(min_parameters=0, max_memory_mb=limit, memory_context=context)
    for seed in range(10):
        design = space.sample(random.Random(seed))
        others = [space.mutate(design, random.Random(seed)), *space.neighbours(design)[:5]]
        for one in (design, *others):
            assert space.problems(space.draft(one), one) == []
            assert one.kv_cache_bytes_per_token() * context <= limit * 1e6


def test_a_cell_has_the_official_string() -> None:
    cell = Cell.from_string("|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|")
    assert cell.operations == ("nor_conv_3x3", "none", "avg_pool_3x3", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")
    assert NASBench201Space().describe(cell).startswith("1<-0 nor_conv_3x3, 2<-0 none, 2<-1 avg_pool_3x3")
    for text in ("", NOTHING[:-1], NOTHING + "|", NOTHING.replace("~2", "~1"), NOTHING.replace("none", "conv", 1)):
        with pytest.raises(ValueError, match="is no cell"):
            Cell.from_string(text)


def test_nearly_right_names_are_corrected_and_silence_keeps_the_base() -> None:
    space, base = NASBench201Space(), Cell.from_string(NOTHING)
    draft = CellDraft(operations=("Nor_Conv_3x3 ", "conv_1x1", "12"))
    cell, notes = space.project(draft, base)
    assert cell.operations == ("nor_conv_3x3", "nor_conv_1x1", "none", "none", "none", "none")
    assert len(notes) == 6 and "'12' became none" in notes[2]
    assert "name 6, for the edges 1<-0" in space.problems(draft, base)[0]


def test_there_are_15625_cells_and_24_neighbours() -> None:
    space = NASBench201Space()
    assert len(list(space.designs())) == 15_625
    assert len(space.neighbours(Cell.from_string(NOTHING))) == 24


def rows() -> dict[str, list[Any]]:
    """A whole table: the share of convolutions is what counts."""
    cells = list(NASBench201Space().designs())
    worth = [float(sum(OPERATIONS.index(name) for name in cell.operations)) for cell in cells]
    return {
        "arch_str": [cell.string for cell in cells],
        "c10_val_200ep": worth,
        "c10_test_200ep": [value + 1 for value in worth],
        "other": ["x"] * len(cells),
    }


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    """A table in the format that the name says."""
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    table = pyarrow.table(columns)
    if plain.suffix == ".csv":
        csv.write_csv(table, plain)
    else:
        parquet.write_table(table, plain)
    if plain != path:
        path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz", "table.parquet", "table.parquet.gz"])
def test_tables_of_all_kinds_are_read(name: str, tmp_path: Path) -> None:
    table = NASBench201Table.read(write(tmp_path / name, rows()))
    cell = Cell.from_string("|nor_conv_3x3~0|" + NOTHING.removeprefix("|none~0|"))
    assert (table.validation(cell), table.test(cell)) == (3.0, 4.0)


def test_columns_can_have_other_names(tmp_path: Path) -> None:
    columns = rows()
    columns["mine"] = columns.pop("c10_val_200ep")
    path = write(tmp_path / "table.parquet", columns)
    with pytest.raises(InputError, match=r"no column 'c10_val_200ep'; it has arch_str, .*mine"):
        NASBench201Table.read(path)
    assert NASBench201Table.read(path, TableColumns(validation="mine")).validation(Cell.from_string(NOTHING)) == 0.0


def changed(**values: Any) -> dict[str, list[Any]]:
    """The table with other values in its second row."""
    columns = rows()
    for name, value in values.items():
        columns[name][1] = value
    return columns


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (changed(arch_str="|none~0|"), "row 2: '|none~0|' is no cell"),
        (changed(arch_str=NOTHING), "row 2: the cell .* is there twice"),
        (changed(c10_val_200ep=float("nan")), "row 2: an accuracy is not between"),
        (changed(c10_test_200ep=101.0), "row 2: an accuracy is not between"),
        (changed(c10_test_200ep=None), "row 2: an accuracy is not between"),
        ({name: values[:-3] for name, values in rows().items()}, "lacks 3 of the 15,625 cells"),
        ({name: values[:0] for name, values in rows().items()}, "lacks 15,625 of the 15,625 cells"),
        (rows() | {"c10_val_200ep": ["a lot"] * 15_625}, "something else than numbers"),
        (rows() | {"c10_val_200ep": [0.5] * 15_625}, "validation accuracies are at most 1; write them in per cent"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_table_is_named(columns: dict[str, list[Any]], words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "table.parquet", columns)
    with pytest.raises(InputError, match=words.replace("|", r"\|").replace("~", r"\~")):
        NASBench201Table.read(path)


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz", "table.parquet", "table.parquet.gz"])
def test_a_broken_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no table"):
        NASBench201Table.read(tmp_path / name)
    for content in (
        b"",
        b"PAR1 and nothing more",
        b"\x1f\x8b\x08 no",
        write(tmp_path / name, rows()).read_bytes()[:999],
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            NASBench201Table.read(tmp_path / name)
    with pytest.raises(InputError, match="unknown kind"):
        NASBench201Table.read(tmp_path / "table.xlsx")


def test_nats_bench_is_asked_for_where_it_is_absent(tmp_path: Path) -> None:
    try:
        import nats_bench  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match="pip install nats_bench"):
            NASBench201Table.from_nats_bench(tmp_path)
    else:
        with pytest.raises(InputError, match="no archive"):
            NASBench201Table.from_nats_bench(tmp_path / "absent")


@pytest.mark.skipif(not SHARED_TABLE.is_file(), reason="the shared table of NAS-Bench-201 is absent")
def test_the_shared_table_has_the_published_optima() -> None:
    table = NASBench201Table.read(SHARED_TABLE)
    cells = list(NASBench201Space().designs())
    best_of_validation = max(cells, key=table.validation)
    assert round(table.validation(best_of_validation), 2) == 91.61
    assert round(table.test(best_of_validation), 2) == 94.37 == round(max(map(table.test, cells)), 2)
