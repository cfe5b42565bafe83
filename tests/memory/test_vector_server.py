"""Vectors on a real Chroma server on loopback: shared by several, one sentence where nobody answers."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memory.rebuild import index_trials, open_vectors, reconcile_vectors
from memory.records import Records
from memory.tables import Run
from tests.chroma_server import running_chroma
from tools.architecture import Architecture
from tools.errors import InputError

EXPECTED = {"architectures": 7, "failures": 1, "lessons": 16, "prompts": 1}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    with running_chroma(tmp_path / "served") as found:
        yield found


def test_several_share_a_server_and_each_set_of_records_has_its_own(
    server: tuple[str, "subprocess.Popen[bytes]"],
    filled: Records,
    places: tuple[Path, Path],
    tmp_path: Path,
    design: Callable[..., Architecture],
) -> None:
    url, process = server
    with open_vectors(*places, filled, url) as one, open_vectors(*places, filled, url) as two:
        assert one.counts() == two.counts() == EXPECTED
        assert not places[0].exists() and not places[1].exists()
        one.delete("architectures", ["run-a/7"])
        assert two.nearest(design(), design(), 1)[0].id == "run-a/6"
        index_trials(filled, two, "run-a", [7])
        # Each sees at once what the other has written.
        found = one.nearest(design(), design(), 2, {"run_id": "run-a", "parameters": {"$gt": 1, "$lt": 10**9}})
        assert [neighbour.id for neighbour in found] == ["run-a/7", "run-a/6"]
        assert two.lessons("keep the early layers wide", 1)[0].text == "keep the early layers wide"
        with Records.open(tmp_path / "others.db") as others:
            others.create_run(Run(id="run-b"))
            with open_vectors(*places, others, url) as third:
                assert sum(third.counts().values()) == 0
        assert not reconcile_vectors(filled, one)
        process.kill()
        process.wait()
        with pytest.raises(InputError, match=f"vector store {url} cannot be reached.*chroma run"):
            one.nearest(design(), design(), 1)


def test_an_address_where_nobody_answers(filled: Records, places: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match=r"http://127.0.0.1:9 cannot be reached.*chroma run"):
        open_vectors(*places, filled, "http://127.0.0.1:9")
    with pytest.raises(InputError, match="no address of a Chroma server"):
        open_vectors(*places, filled, "http://")
