"""Names that come from commands, records and imports do not lead out of the home."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from graph.folder import Home
from memory.records import Records
from memory.tables import Run
from penjing.commands import app
from tests.many_trials import write_run
from tools.errors import InputError

ESCAPES = ["../../elsewhere", "..", "/etc", "../runs/../../elsewhere", "a/../../elsewhere", "a\x00b", ""]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENJING_HOME", str(tmp_path / "deep" / "home"))
    write_run(tmp_path / "deep" / "home", 2, "run-few", spans=False)
    return tmp_path / "deep" / "home"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ESCAPES)
def test_a_folder_of_a_run_or_an_evaluation_is_inside(name: str, tmp_path: Path) -> None:
    for folder in (Home(tmp_path).run, Home(tmp_path).evaluation):
        with pytest.raises(InputError, match="is no folder in"):
            folder(name)
    assert Home(tmp_path).evaluation("abc/run-few/1") == tmp_path / "evaluations/abc/run-few/1"


@pytest.mark.parametrize("name", ["../../elsewhere", "/etc", ".."])
@pytest.mark.parametrize(
    "command",
    [
        ["show", "NAME"],
        ["resume", "NAME"],
        ["trace", "NAME"],
        ["branch", "NAME", "--at", "0"],
        ["report", "NAME", "--out", "OUT"],
        ["export", "NAME", "0", "OUT"],
        ["memory", "forget", "NAME", "--yes"],
        ["memory", "export", "OUT", "--run", "NAME"],
        ["prompts", "show", "NAME"],
        ["prompts", "edit", "NAME", "--run", "run-few"],
    ],
)
def test_commands_know_no_such_name(command: list[str], name: str, home: Path, tmp_path: Path) -> None:
    before = files(tmp_path)
    places = {"NAME": name, "OUT": str(tmp_path / "out")}
    result = CliRunner().invoke(app, [places.get(part, part) for part in command])
    assert result.exit_code == 2 and "Usage:" not in result.stderr, result.output
    assert {path for path in files(tmp_path) - before if "deep/home/" not in path} == set()


def test_records_that_name_a_place_outside_are_not_followed(home: Path, tmp_path: Path) -> None:
    """As somebody might write them who can write into records on a server."""
    with Records.open(home / "records.sqlite") as records:
        config = records.run("run-few").config
        records.create_run(Run(id="../../outside", status="interrupted", config=config))
    outside = home.parent / "outside"
    outside.mkdir()
    (outside / "kept").write_text("mine")
    for command in (["resume", "../../outside"], ["memory", "forget", "../../outside", "--yes"]):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 2 and "is no folder in" in result.stderr, result.output
    assert files(outside) == {"kept"}


def test_an_import_brings_no_name_that_leads_out(home: Path, tmp_path: Path) -> None:
    exported = tmp_path / "exported.jsonl"
    assert CliRunner().invoke(app, ["memory", "export", str(exported)]).exit_code == 0
    text = exported.read_text().replace("run-few", "../../outside")
    (tmp_path / "bad.jsonl").write_text(text)
    before = files(tmp_path)
    result = CliRunner().invoke(app, ["memory", "import", str(tmp_path / "bad.jsonl")])
    assert result.exit_code == 2 and "cannot be imported" in result.stderr
    assert {path for path in files(tmp_path) - before if "deep/home/" not in path} == set()
    assert json.loads(CliRunner().invoke(app, ["runs", "--json"]).stdout)
