"""A checkpoint that somebody else wrote makes plain values and nothing else."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
from langgraph.checkpoint.serde.jsonplus import (
    EXT_CONSTRUCTOR_KW_ARGS,
    EXT_CONSTRUCTOR_POS_ARGS,
    EXT_CONSTRUCTOR_SINGLE_ARG,
)

from graph.checkpoint_file import SERIALIZER

CALLS: dict[str, tuple[int, Any]] = {
    "one argument": (EXT_CONSTRUCTOR_SINGLE_ARG, ("subprocess", "check_call", ["touch", "MARK"])),
    "arguments by place": (EXT_CONSTRUCTOR_POS_ARGS, ("subprocess", "check_call", [["touch", "MARK"]])),
    "arguments by name": (EXT_CONSTRUCTOR_KW_ARGS, ("subprocess", "check_call", {"args": ["touch", "MARK"]})),
}


@pytest.mark.parametrize("way", CALLS)
def test_nothing_is_called(way: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code, call = CALLS[way]
    packed = ormsgpack.packb({"turn": ormsgpack.Ext(code, ormsgpack.packb(_with(call, str(mark))))})
    found = SERIALIZER.loads_typed(("msgpack", packed))
    assert not mark.exists() and set(found) == {"turn"}


def _with(value: Any, mark: str) -> Any:
    if isinstance(value, dict):
        return {key: _with(part, mark) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_with(part, mark) for part in value]
    return mark if value == "MARK" else value


def test_pickles_are_not_read() -> None:
    with pytest.raises(NotImplementedError):
        SERIALIZER.loads_typed(("pickle", b"\x80\x04."))


def test_what_a_search_stores_comes_back() -> None:
    state = {"turn": 3, "evaluated": [0, 1], "stop": "", "parent": None, "at": datetime(2026, 1, 1, tzinfo=UTC)}
    assert SERIALIZER.loads_typed(SERIALIZER.dumps_typed(state)) == state
