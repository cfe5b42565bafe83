"""Another machine goes on with a run, exports and forgets it: it has a home and a cache of its own, and the servers."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from graph.config import SearchConfig
from graph.folder import Home
from graph.guidance import write_guidance
from graph.session import SearchSession
from penjing.home_memory import Memory
from prompts.library import PromptLibrary
from tests.fake_openai import FakeOpenAI
from tests.ftp_server import PASSWORD, running_ftp
from tests.postgresql import Server
from tests.tiny_search import Places
from tools.addresses import without_password
from tools.artifacts import Artifacts
from tools.errors import InputError
from tools.trial_folder import MODEL_FOLDER, has_weights

ConfigOf = Callable[..., SearchConfig]
CANARY = "canary-3b7d1"


@dataclass(frozen=True)
class Servers:
    database: str
    artifacts: str
    served: Path
    ftp: "subprocess.Popen[bytes]"


@pytest.fixture
def servers(postgresql: Server, tmp_path: Path) -> Iterator[Servers]:
    """Records and checkpoints in PostgreSQL, artifacts on an FTP server; both addresses have passwords."""
    url = postgresql.database()
    with running_ftp(tmp_path / "served") as (artifacts, process):
        yield Servers(url.replace("penjing@", f"penjing:{CANARY}@"), artifacts, tmp_path / "served", process)
    postgresql.drop(url)


@pytest.fixture
def places(servers: Servers) -> Places:
    return lambda home: {
        "records": servers.database,
        "checkpoints": servers.database,
        "artifacts": servers.artifacts,
    }


@pytest.fixture
def other_home(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of another machine, which knows the servers by its environment."""
    monkeypatch.setenv("PENJING_RECORDS", servers.database)
    monkeypatch.setenv("PENJING_CHECKPOINTS", servers.database)
    monkeypatch.setenv("PENJING_ARTIFACTS", servers.artifacts)
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path / "other cache"))
    return tmp_path / "other home"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    with FakeOpenAI(seed=3, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        yield server


def test_another_machine_goes_on(
    config_of: ConfigOf,
    endpoint: FakeOpenAI,
    servers: Servers,
    other_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = SearchSession.start(config_of(trials=4, keep_models=1))
    for event in session.stream():
        if event.kind == "evaluation" and event.trial == 1:
            with pytest.raises(InputError, match="is being worked on by another process, here or on another machine"):
                SearchSession.resume(session.run_id, other_home).run()
            break
    assert session.record.status == "interrupted"
    shutil.rmtree(session.config.cache)
    before = {trial.number: trial.created_at for trial in session.trials() if trial.measurement is not None}

    resumed = SearchSession.resume(session.run_id, other_home)
    assert resumed.config.cache == tmp_path / "other cache"
    events = list(resumed.stream())
    assert resumed.record.status == "finished" and len(resumed.trials()) == 4
    assert not {event.trial for event in events if event.kind == "progress"} & set(before), "measured already"
    assert not any(event.kind == "progress" and event.phase == "taking saliency" for event in events)
    best = resumed.best()
    kept = {trial.evaluation_key for trial in (resumed.trials()[0], best)}
    assert {path.name for path in (servers.served / "kept" / "evaluations").iterdir() if list(path.iterdir())} == kept
    assert (other_home / "runs" / session.run_id / "checkpoints.sqlite").exists() is False

    # A fourth one branches, before anything of the run is there.
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path / "fourth cache"))
    fourth = SearchSession.open(session.run_id, tmp_path / "fourth")
    branch = fourth.branch(1, fourth.config.model_copy(update={"trials": 2, "self_evolution": 1}))
    branch.run()
    assert branch.record.status == "finished" and len(branch.trials()) == 2
    assert {trial.evaluation_key for trial in branch.trials()} <= {trial.evaluation_key for trial in resumed.trials()}
    fourth.close()

    # A third machine, with nothing but the addresses, exports what is kept, and what was not kept too.
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path / "third cache"))
    third = SearchSession.open(session.run_id, tmp_path / "third")
    third.draw(tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").is_file()
    third.export(best, tmp_path / "exported")
    assert same_weights(tmp_path / "exported", resumed.folder.export)
    assert not (third.config.cache / "surveys").exists(), "kept weights need no survey"
    other = next(trial for trial in third.trials() if trial.evaluation_key not in kept)
    assert other.evaluation_key is not None
    third.export(other, tmp_path / "grown again")
    assert has_weights(Home(third.config.home).evaluation(other.evaluation_key))
    artifacts = Artifacts.open(servers.artifacts)
    assert artifacts.fetch(f"runs/{session.run_id}/best_model", tmp_path / "fetched")
    assert same_weights(tmp_path / "fetched", resumed.folder.export)

    for one in (session, resumed, third):
        one.close()
    assert no_password_is_written(tmp_path)
    with Memory(other_home) as memory:
        memory.forget(session.run_id)
        memory.forget(branch.run_id)
    left = [path for path in (servers.served / "kept").rglob("*") if path.is_file()]
    assert {path.relative_to(servers.served / "kept").parts[0] for path in left} == {".penjing", "surveys"}
    assert checkpoints_of(servers.database, session.run_id) == 0


def test_templates_and_guidance_go_on_too(config_of: ConfigOf, endpoint: FakeOpenAI, other_home: Path) -> None:
    def asked(session: SearchSession, stop_after: int) -> str:
        """What the agents were asked meanwhile."""
        before = len(session.calls())
        for event in session.stream():
            if event.kind == "evaluation" and event.trial == stop_after:
                break
        return " ".join(message["content"] for call in session.calls()[before:] for message in call.messages)

    library = PromptLibrary()
    session = SearchSession.start(config_of(trials=5, self_evolution=4))
    write_guidance(session.folder.guidance, "Spare the stem, canary one.")
    session.folder.prompts.mkdir()
    (session.folder.prompts / "strategies.md").write_text(library.path("strategies").read_text() + "Canary two.\n")
    here = asked(session, 1)
    assert "canary one" in here and "Canary two" in here

    resumed = SearchSession.resume(session.run_id, other_home)
    there = asked(resumed, 2)
    assert "canary one" in there and "Canary two" in there
    write_guidance(resumed.folder.guidance, "Now cut it, canary three.")
    assert "canary three" in asked(resumed, 3)

    # At home again, where nothing was written meanwhile.
    at_home = SearchSession.resume(session.run_id, session.config.home)
    again = asked(at_home, 4)
    assert "canary three" in again and "canary one" not in again and "Canary two" in again
    assert at_home.folder.guidance.read_text() == "Now cut it, canary three."
    for one in (session, resumed, at_home):
        one.close()


def same_weights(one: Path, other: Path) -> bool:
    # The order of the metadata in a file of safetensors is left to chance.
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def no_password_is_written(folder: Path) -> bool:
    files = [path for path in folder.rglob("*") if path.is_file() and "served" not in path.parts]
    return not [path for path in files for word in (CANARY, PASSWORD) if word.encode() in path.read_bytes()]


def checkpoints_of(url: str, run_id: str) -> int:
    from psycopg import connect

    with connect(url) as connection:
        rows = connection.execute("SELECT count(*) FROM checkpoints WHERE thread_id = %s", (run_id,)).fetchone()
        return int(rows[0]) if rows else -1


def test_no_password_reaches_the_database(
    config_of: ConfigOf, endpoint: FakeOpenAI, servers: Servers, tmp_path: Path
) -> None:
    session = SearchSession.start(config_of(trials=1))
    session.run()
    assert session.record.config["checkpoints"] == without_password(servers.database)
    assert session.record.config["artifacts"] == without_password(servers.artifacts)
    from psycopg import connect, sql

    with connect(servers.database) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert {"run", "checkpoints", "checkpoint_writes"} <= {name for (name,) in names}
        for (name,) in names:
            query = sql.SQL("SELECT * FROM {} AS one").format(sql.Identifier(name))
            rows = str(connection.execute(query).fetchall())
            assert CANARY not in rows and PASSWORD not in rows, name
    session.close()
    assert no_password_is_written(tmp_path)


def test_a_store_that_goes_away_does_not_stop_the_search(
    config_of: ConfigOf, endpoint: FakeOpenAI, servers: Servers, tmp_path: Path
) -> None:
    session = SearchSession.start(config_of(trials=3))
    told = []
    with pytest.raises(InputError, match=r"cannot be used .* resume") as caught:
        for event in session.stream():
            if event.kind == "evaluation" and event.trial == 0:
                servers.ftp.kill()
            if event.kind == "stage" and event.stage == "artifacts":
                told.append(event.message)
    assert told and PASSWORD not in str(caught.value) + "".join(told)
    assert len([trial for trial in session.trials() if trial.measurement is not None]) == 3
    with running_ftp(tmp_path / "served") as (again, _):
        resumed = SearchSession.open(session.run_id, session.config.home)
        resumed.config = resumed.config.model_copy(update={"artifacts": again})
        resumed.run()
        kept = Artifacts.open(again)
        keys = [trial.evaluation_key for trial in resumed.trials()]
        assert all(kept.has(f"evaluations/{key}/{MODEL_FOLDER}") for key in keys)
    assert resumed.record.status == "finished"


@pytest.mark.parametrize(
    ("setting", "address", "words"),
    [
        ("checkpoints", "postgresql://me:canary@localhost:9/x", r"postgresql://me@localhost:9/x cannot be used"),
        ("artifacts", "ftp://me:canary@127.0.0.1:9/x", r"ftp://me@127.0.0.1:9/x cannot be used"),
        ("artifacts", "smb://me:canary@host/x", "smbprotocol"),
    ],
)
def test_a_place_that_cannot_be_used_is_told_before_anything_is_paid(
    config_of: ConfigOf, endpoint: FakeOpenAI, setting: str, address: str, words: str
) -> None:
    session = SearchSession.start(config_of(**{setting: address}))
    with pytest.raises(InputError, match=words) as caught:
        session.run()
    assert "\n" not in str(caught.value) and "canary@" not in str(caught.value)
    assert not session.trials() and not endpoint.requests and session.record.status == "interrupted"
