"""Where a home has its records: its own file, or a database that it keeps to, without any password in it."""

from pathlib import Path

import pytest

from graph.config import SearchConfig
from graph.folder import Home
from graph.session import SearchSession
from memory.records import Records
from memory.tables import Run
from tools.errors import InputError


@pytest.fixture(autouse=True)
def no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENJING_RECORDS", raising=False)


def test_a_home_has_a_file_of_its_own(tmp_path: Path) -> None:
    place = Home(tmp_path).records
    assert (str(place), place.url, place.is_file()) == (str(tmp_path / "records.sqlite"), None, False)
    place.keep(None)
    Records.open(place).close()
    assert place.is_file() and not (tmp_path / "records.url").exists()
    with pytest.raises(InputError, match=r"records\.sqlite, not in postgresql://me@host/x; choose another home"):
        place.keep("postgresql://me:secret@host/x")


def test_a_home_keeps_to_its_database_and_never_writes_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Home(tmp_path).records
    place.keep("postgresql://me:secret@host/x")
    place.keep("postgresql://me:changed@host/x")
    assert str(place) == "postgresql://me@host/x" and place.is_file()
    with pytest.raises(InputError, match="choose another home"):
        place.keep("postgresql://me@host/y")
    with pytest.raises(InputError, match="no database URL"):
        place.keep("::")
    monkeypatch.setenv("PENJING_RECORDS", "postgresql://me:secret@host/x")
    assert str(place) == "postgresql://me:secret@host/x"


def test_a_search_is_recorded_there_and_found_again(tmp_path: Path) -> None:
    elsewhere = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    session = SearchSession.start(SearchConfig(home=tmp_path / "home", records=elsewhere, trials=1))
    session.close()
    with Records.open(tmp_path / "elsewhere.db") as records:
        (run,) = records.runs()
        assert isinstance(run, Run) and "records" not in run.config
    assert not (tmp_path / "home" / "records.sqlite").exists()
    again = SearchSession.open("latest", tmp_path / "home")
    assert again.run_id == run.id and again.config.fingerprint == run.fingerprint
    again.close()
