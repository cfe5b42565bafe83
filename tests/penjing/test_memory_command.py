"""The commands `penjing memory ...`: what they print, their JSON, and one sentence for bad input."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from graph.folder import Home
from memory.records import Records
from memory.tables import Run
from penjing.commands import app
from tests.memory.conftest import climb, finish, make_design

runner = CliRunner()


@pytest.fixture(scope="module")
def filled_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two runs of six trials, their folders, and vectors in line with them."""
    home = tmp_path_factory.mktemp("filled") / "home"
    home.mkdir()
    with Records.open(home / "records.sqlite") as records:
        source = make_design().model_dump(mode="json")
        for run, kind in (("20260101-000000-aaaa", "tiny"), ("20260102-000000-bbbb", "small")):
            config = {"trials": 6, "home": "/elsewhere"}
            entry = Run(
                id=run, source=kind, corpus="docs", status="finished", config=config, source_architecture=source
            )
            records.create_run(entry)
            for turn in range(6):
                design, loss = make_design(ffn=(128, 16 * (turn + 1))), None if turn == 2 else 3.0 - turn / 10
                words = [f"narrow the late FFN to {16 * (turn + 1)}" if kind == "tiny" else f"fewer heads, {turn}"]
                finish(records, run, turn, design, loss, rationale=words, prompt_hash="abc")
            (home / "runs" / run / "logs").mkdir(parents=True)
            (home / "runs" / run / "logs" / "worker.log").write_text(run)
        records.add_prompt("abc", "strategies", "Design a language model with narrow layers.")
        key = str(records.trial("20260102-000000-bbbb", 0).evaluation_key)
    (home / "evaluations" / key).mkdir(parents=True)
    assert runner.invoke(app, ["memory", "rebuild"], env={"PENJING_HOME": str(home)}).exit_code == 0
    return home


@pytest.fixture
def home(filled_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(filled_home, tmp_path / "home")
    monkeypatch.setenv("PENJING_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def said(*arguments: str, standard_input: str | None = None) -> str:
    """What the command printed on stdout."""
    result = runner.invoke(app, ["memory", *arguments], input=standard_input)
    assert result.exit_code == 0, result.output
    return result.stdout


def document(*arguments: str) -> Any:
    return json.loads(said(*arguments, "--json"))


def refused(*arguments: str, standard_input: str | None = None) -> str:
    """The one sentence with which bad input ends."""
    result = runner.invoke(app, ["memory", *arguments], input=standard_input)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("penjing: ")]
    return line


def test_search_by_words(home: Path) -> None:
    found = document("search", "narrow late FFN", "-k", "3")
    assert [lesson["text"][:22] for lesson in found["lessons"]] == ["narrow the late FFN to"] * 3
    assert len({design["design"] for design in found["designs"]}) == 3
    assert found["designs"][0]["id"] == found["lessons"][0]["trial"]
    assert found["prompts"] == [
        {**found["prompts"][0], "id": "abc", "name": "strategies", "runs": 2, "text": found["prompts"][0]["text"]}
    ]
    table = said("search", "narrow late FFN")
    assert "20260101-000000-aaaa/" in table and "narrow the late FFN to" in table and "strategies" in table


@pytest.mark.parametrize(
    ("options", "trials"),
    [
        (["--source", "small"], {f"20260102-000000-bbbb/{number}" for number in range(6)}),
        (["--run", "20260102"], {f"20260102-000000-bbbb/{number}" for number in range(6)}),
        (["--run", "20260102", "--fidelity", "quick"], {f"20260102-000000-bbbb/{number}" for number in range(6)}),
        (["--run", "20260101", "--max-parameters", "47K"], {"20260101-000000-aaaa/0"}),
        (["--run", "20260101", "--min-parameters", "61K"], {"20260101-000000-aaaa/5"}),
    ],
)
def test_search_within_conditions(home: Path, options: list[str], trials: set[str]) -> None:
    found = document("search", "narrow late FFN", "--kind", "lessons", "-k", "50", *options)
    assert list(found) == ["lessons"]
    assert {lesson["trial"] for lesson in found["lessons"]} == trials


def test_designs_like_a_trial(home: Path) -> None:
    found = document("like", "20260101/3", "-k", "2")
    assert found["trial"] == "20260101-000000-aaaa/3"
    assert {row["id"].partition("/")[2] for row in found["designs"]} == {"2", "4"}, "each design once, without its own"
    assert found["designs"][0]["distance"] == pytest.approx(found["designs"][1]["distance"]) != 0
    only = document("like", "latest/3", "--source", "small", "-k", "9")["designs"]
    assert {row["source"] for row in only} == {"small"} and len(only) == 5
    failed = next(row for row in only if row["id"].endswith("/2"))
    assert failed["loss"] is None and "out of memory" in failed["outcome"]
    assert "failed: out of memory" in said("like", "latest/3", "-k", "9")


def test_stats_count_and_leave_the_vectors_as_they_are(home: Path) -> None:
    counted = document("stats")
    assert counted["runs"] == {"finished": 2} and counted["trials"] == counted["finished_trials"] == 12
    assert counted["evaluations"] == {"quick": {"done": 10, "failed": 2}} and counted["lessons"] == 12
    assert counted["vectors"]["state"] == "agree" and counted["bytes"]["records"] > 10_000
    with Records.open(home / "records.sqlite") as records:
        finish(records, "20260102-000000-bbbb", 9, make_design(hidden=32), 2.0, rationale=["new"])
    for _ in range(2):
        differs = document("stats")["vectors"]
        assert differs["state"].startswith("differ") and differs["expected"]["architectures"] == 11
    said("search", "new")
    assert document("stats")["vectors"]["state"] == "agree"
    assert "agree" in said("stats") and "11 done, 2 failed" in said("stats")


def test_all_rungs_of_a_design_are_fidelities(home: Path) -> None:
    with Records.open(home / "records.sqlite") as records:
        source, ladder = make_design().model_dump(mode="json"), {"fidelities": ["quick", "long_training"]}
        records.create_run(Run(id="climbing", source="tiny", corpus="docs", config=ladder, source_architecture=source))
        for turn, width in enumerate((24, 40, 56)):
            words = [f"narrow the late FFN to {width}"]
            trial = finish(records, "climbing", turn, make_design(ffn=(128, width)), 3.0, rationale=words)
            if turn == 1:
                climb(records, trial, 2.5, "long_training")
    for options in ([], ["--run", "climbing"], ["--source", "tiny"]):
        (found,) = document("like", "20260101/3", "--fidelity", "long_training", *options)["designs"]
        assert (found["id"], found["fidelity"], found["loss"]) == ("climbing/1", "long_training", 2.5)
    assert document("like", "climbing/1", "--fidelity", "long_training")["designs"] == []
    near = document("like", "20260101/3", "--run", "climbing", "--fidelity", "quick")["designs"]
    assert {one["id"] for one in near} == {f"climbing/{number}" for number in range(3)}
    (found,) = document("search", "narrow the late FFN", "--fidelity", "long_training", "-k", "3")["lessons"]
    assert found["trial"] == "climbing/1"


def test_what_fits_is_found_behind_many_lessons_that_do_not(home: Path) -> None:
    with Records.open(home / "records.sqlite") as records:
        source = make_design().model_dump(mode="json")
        records.create_run(Run(id="long", source="tiny", corpus="docs", source_architecture=source))
        for turn in range(60):
            words = [f"keep the embedding wide, {turn}"]
            finish(records, "long", turn, make_design(ffn=(128, 8 * turn + 8)), 3.0, rationale=words)
        finish(records, "long", 60, make_design(hidden=512), 3.0, rationale=["keep it"])
    (found,) = document("search", "keep the embedding wide", "-k", "1", "--min-parameters", "300K")["lessons"]
    assert found["trial"] == "long/60"


def test_trials_of_a_running_search_that_wait_are_no_difference(home: Path) -> None:
    run = "20260102-000000-bbbb"
    with Records.open(home / "records.sqlite") as records:
        records.update_run(run, status="running")
        finish(records, run, 9, make_design(hidden=32), 2.0, rationale=["new", "and more"])
        records.add_prompt("late", "strategies", "A prompt that waits with it.")
        with Home(home).run(run).lock():
            assert document("stats")["vectors"]["state"] == "agree; 1 trial of a running search waits to be put in"
            finish(records, run, 10, make_design(hidden=40), 2.0, rationale=["newer"])
            assert "2 trials of a running search wait to be put in" in " ".join(said("stats").split())
            finish(records, "20260101-000000-aaaa", 9, make_design(hidden=48), 2.0)
            assert document("stats")["vectors"]["state"].startswith("differ")
        assert document("stats")["vectors"]["state"].startswith("differ")


def test_stats_leave_vectors_that_were_not_closed_to_the_next_use(home: Path) -> None:
    (home / "vectors.open").write_text("everything")
    for index in home.glob("vectors/*/header.bin"):
        index.write_bytes(bytes(index.stat().st_size))
    for _ in range(2):
        assert document("stats")["vectors"]["state"] == "not closed in order; mended at the next use"
    assert len(document("like", "latest/3")["designs"]) == 5
    assert document("stats")["vectors"]["state"] == "agree"


def test_reading_works_while_another_process_has_the_vectors(home: Path) -> None:
    with FileLock(home / "vectors.lock"):
        assert len(document("search", "narrow late FFN", "--kind", "lessons")["lessons"]) == 5
        assert document("like", "latest/3")["designs"]
        assert document("stats")["vectors"]["state"] == "in use"
        assert "Another process has the vectors" in refused("rebuild")
        assert document("forget", "latest", "--yes")["trials"] == 6
    assert document("stats")["vectors"]["state"].startswith("differ")
    said("search", "narrow")
    assert document("stats")["vectors"]["state"] == "agree"


def test_rebuild_mends_what_is_broken(home: Path) -> None:
    (home / "vectors" / "chroma.sqlite3").write_bytes(b"nonsense")
    assert document("stats")["vectors"]["state"].startswith("broken")
    assert document("rebuild") == {"architectures": 10, "failures": 2, "lessons": 12, "prompts": 1}
    assert document("stats")["vectors"]["state"] == "agree"


def test_forget_asks_and_takes_all_away(home: Path) -> None:
    run = "20260102-000000-bbbb"
    (folder,) = (home / "evaluations").iterdir()
    assert "add --yes" in refused("forget", "latest") and (home / "runs" / run).is_dir()
    result = runner.invoke(app, ["memory", "forget", "latest", "--yes"])
    assert result.exit_code == 0 and f"run {run} with 6 trials" in result.stdout
    assert not (home / "runs" / run).exists() and not folder.exists()
    assert (home / "runs" / "20260101-000000-aaaa" / "logs" / "worker.log").is_file()
    with Records.open(home / "records.sqlite") as records:
        assert [entry.id for entry in records.runs()] == ["20260101-000000-aaaa"] and len(records.prompts()) == 1
    counts = document("stats")["vectors"]
    assert counts["state"] == "agree" and counts["counts"]["architectures"] == 5
    assert "no run '20260102'" in refused("forget", "20260102", "--yes")


def test_a_run_that_is_worked_on_is_not_forgotten(home: Path) -> None:
    with FileLock(home / "runs" / "20260102-000000-bbbb" / "run.lock"):
        assert "worked on by another process" in refused("forget", "latest", "--yes")
    with Records.open(home / "records.sqlite") as records:
        assert len(records.trials("20260102-000000-bbbb")) == 6


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another home, where nothing is; from here on the commands work there."""
    monkeypatch.setenv("PENJING_HOME", str(tmp_path / "elsewhere"))
    yield tmp_path / "elsewhere"


def test_to_another_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "all.jsonl"
    assert document("export", str(file))["runs"] == ["20260101-000000-aaaa", "20260102-000000-bbbb"]
    assert "exists already" in refused("export", str(file))
    said("export", str(file), "--overwrite")
    one = said("export", "-", "--run", "latest")
    assert json.loads(one.splitlines()[0])["header"]["runs"] == ["20260102-000000-bbbb"]
    assert not list(tmp_path.glob(".*")), "nothing is left beside"

    monkeypatch.setenv("PENJING_HOME", str(tmp_path / "elsewhere"))
    report = json.loads(said("import", "-", "--json", standard_input=one))
    assert report["imported"] == ["20260102-000000-bbbb"] and report["trials"] == 6
    vectors = document("stats")["vectors"]
    assert vectors["state"] == "agree" and vectors["counts"]["lessons"] == 6, "made at the import"
    assert "Here before, left as they are: 20260102-000000-bbbb." in said("import", str(file))
    assert "Nothing new was imported." in said("import", str(file))
    assert len(document("search", "narrow late FFN", "-k", "9")["lessons"]) == 9
    counted = document("stats")
    assert counted["imported_runs"] == 2 and counted["vectors"]["state"] == "agree"
    shown = runner.invoke(app, ["runs"]).stdout
    assert shown.count("finished, imported") == 2
    assert json.loads(runner.invoke(app, ["show", "latest", "--json"]).stdout)["imported"] is True
    for command in (["resume", "latest"], ["export", "latest", str(tmp_path / "model")], ["judge", "20260102"]):
        result = runner.invoke(app, command)
        assert result.exit_code == 2 and "was imported" in result.stderr and "To go on" not in result.stderr
    assert not (tmp_path / "model").exists()


def test_one_s_own_runs_are_the_latest(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = said("export", "-", "--run", "20260102")
    monkeypatch.setenv("PENJING_HOME", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    with Records.open(tmp_path / "elsewhere" / "records.sqlite") as records:
        records.create_run(Run(id="mine"))
    said("import", "-", standard_input=text)
    with Records.open(tmp_path / "elsewhere" / "records.sqlite") as records:
        records.update_run("mine", created_at=records.run("20260102").created_at.replace(year=2001))
        assert records.run("latest").id == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "  "], "nothing to search for"),
        (["search", "x", "--kind", "recipes"], "the kinds are designs, lessons, prompts"),
        (["search", "x", "--run", "nowhere"], "no run 'nowhere'"),
        (["search", "x", "--fidelity", "nonsense"], "Nothing was measured at the fidelity 'nonsense'; there is quick."),
        (["like", "latest/3", "--fidelity", "nonsense"], "there is quick."),
        (["search", "x", "--max-parameters", "big"], "--max-parameters 'big'"),
        (["like", "latest"], "RUN/NUMBER"),
        (["like", "latest/x"], "RUN/NUMBER"),
        (["like", "latest/99"], "no trial 99"),
        (["like", "nowhere/0"], "no run 'nowhere'"),
        (["export", "x.jsonl", "--run", "nowhere"], "no run 'nowhere'"),
        (["export", "/nowhere/x.jsonl"], "Cannot write /nowhere/x.jsonl"),
        (["export", "-", "--json"], "both want stdout"),
        (["import", "/nowhere.jsonl"], "Cannot read /nowhere.jsonl"),
        (["import", "-"], "it is empty"),
    ],
)
def test_bad_input(home: Path, arguments: list[str], words: str) -> None:
    assert words in refused(*arguments, standard_input="")


def test_a_bad_line_is_named(home: Path) -> None:
    text = said("export", "-")
    assert "Line 2 cannot be imported" in refused("import", "-", standard_input=text.replace('"name"', '"nome"', 1))
    strange = text.replace('"trials":6', '"trials":"none"', 1)
    words = refused("import", "-", standard_input=strange)
    assert "its settings or result cannot be read: " in words and "trials" in words


def test_nothing_is_remembered_yet(elsewhere: Path) -> None:
    for command in (["stats"], ["search", "x"], ["like", "a/0"], ["rebuild"], ["export", "-"], ["forget", "latest"]):
        assert "Nothing is remembered yet" in refused(*command)
    assert not elsewhere.exists()


def test_help_is_quick_and_teaches() -> None:
    for command in ("search", "like", "stats", "rebuild", "forget", "export", "import"):
        result = runner.invoke(app, ["memory", command, "--help"])
        assert result.exit_code == 0 and "--json" in result.output and "--debug" in result.output
    program = "import sys; from penjing import commands; print('sqlmodel' in sys.modules, 'chromadb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_from_python(home: Path) -> None:
    from penjing import Memory

    with Memory(home) as memory:
        assert [one.id.rpartition("/")[2] for one in memory.like("latest/3", k=2)] in (["2", "4"], ["4", "2"])
        assert memory.search("narrow late FFN", k=1).lessons[0].source == "tiny"
        assert memory.what_goes("latest").trials == 6


def test_what_a_language_model_wrote_is_no_markup(home: Path) -> None:
    words = "[/bold] keep [red]early[/red] layers wide\x1b[2J"
    with Records.open(home / "records.sqlite") as records:
        finish(records, "20260101-000000-aaaa", 9, make_design(hidden=32), 2.0, rationale=[words])
        records.add_prompt("odd", "odd", f"A prompt: {words}")
    found = said("search", "keep early layers wide", "-k", "1")
    assert found.count("[/bold] keep") == 2 and "[red]early[/red]" in found and "\x1b" not in found


@pytest.mark.parametrize("table", [None, 5, [{"name": 1}], [], {}])
def test_a_result_that_cannot_be_shown_is_refused(home: Path, table: object) -> None:
    lines = [json.loads(line) for line in said("export", "-").splitlines()]
    next(line["run"] for line in lines if "run" in line)["result"] = {"best": 0, "table": table}
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    assert "result" in refused("import", "-", standard_input=text)
