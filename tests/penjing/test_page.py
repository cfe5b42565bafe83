"""The page without a browser: what each of its pages shows, and what they say where something is not there."""

import time
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from graph.folder import Home
from memory.records import Records
from penjing.commands import app
from prompts.editing import save_template
from prompts.library import PromptLibrary
from tests.many_trials import HOSTILE, write_run


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write_run(folder, 10, "run-few")
    write_run(folder, 0, "run-empty", spans=False)
    return folder


@pytest.fixture(autouse=True)
def home(filled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENJING_HOME", str(filled))
    return filled


def page(name: str, **query: str) -> AppTest:
    """The page after its first run."""
    script = f"from penjing.page.{name}_page import show_{name}\nshow_{name}()\n"
    found = AppTest.from_string(script, default_timeout=120)
    for key, value in query.items():
        found.query_params[key] = value
    found.run()
    assert not found.exception, found.exception
    return found


def text_of(found: AppTest) -> str:
    kinds = ("title", "header", "markdown", "caption", "info", "error", "code", "success", "warning")
    return "\n".join(str(one.value) for kind in kinds for one in found.get(kind))


def test_all_runs() -> None:
    found = page("runs")
    rows = found.dataframe[0].value
    assert set(rows["run"]) == {"run-few", "run-empty"} and set(rows["trials"]) == {10, 0}


def test_one_run_has_its_figures_and_trials() -> None:
    found = page("run", run="run-few")
    assert found.title[0].value == r"Run run\-few"
    assert len(found.get("plotly_chart")) == 3
    assert list(found.dataframe[0].value["trial"]) == list(reversed(range(10)))
    assert any("9\\,000 tokens read\\, 1\\,200 written" in one.value for one in found.markdown)


def test_one_trial_says_what_was_said_as_text() -> None:
    found = page("trial", run="run-few", trial="3")
    assert len(found.get("plotly_chart")) == 3 and "What its author said" in text_of(found)
    assert any(HOSTILE in code.value and code.language == "plaintext" for code in found.code)
    for markdown in [*found.markdown, *found.caption, *found.title]:
        assert "<script>" not in markdown.value and "![" not in markdown.value


def test_traces_and_their_filter() -> None:
    found = page("traces", run="run-few")
    assert "turn 1: evolver" in text_of(found) and "trial 9:" in text_of(found)
    found.text_input[0].set_value("nowhere to be found").run()
    assert "Nothing has these words in it" in text_of(found)


def test_a_template_is_edited_for_one_run(home: Path) -> None:
    found = page("prompts", run="run-few")
    area = template(found)
    before = area.value
    area.set_value(before.replace("{{ parent.design }}", "{{ parent.design"))
    save(found).click().run()
    assert "strategies\\, line" in text_of(found) and "Nothing was saved" in text_of(found)
    own = Home(home).run("run-few").prompts
    assert not own.exists() or not list(own.glob("*.md"))
    template(found).set_value(before.replace("As JSON.", "Be bold. As JSON."))
    save(found).click().run()
    version = PromptLibrary(above=own).hash("strategies")
    assert f"version {version} from the next turn on" in text_of(found)
    assert version != PromptLibrary().hash("strategies")


def test_guidance_is_written_for_one_run(home: Path) -> None:
    found = page("prompts", run="run-few")
    (area,) = [one for one in found.text_area if one.label == "Your own words for the agents"]
    area.set_value("Keep the stem wide.")
    next(one for one in found.button if one.label == "Tell them").click().run()
    assert "from their next turn on" in text_of(found)
    assert Home(home).run("run-few").guidance.read_text() == "Keep the stem wide."


def template(found: AppTest) -> Any:
    return next(one for one in found.text_area if one.label == "Text of the template")


def save(found: AppTest) -> Any:
    return next(one for one in found.button if one.label == "Save for this run")


def test_saving_refuses_what_cannot_be_used(tmp_path: Path) -> None:
    assert [one.level for one in save_template(tmp_path / "new", "strategies", "no header")] == ["error"]
    assert not (tmp_path / "new").exists()


def test_what_is_not_there() -> None:
    assert "there is no run" in text_of(page("run", run="nothing"))
    assert "no trial 99" in text_of(page("trial", run="run-few", trial="99"))
    assert "is no number of a trial" in text_of(page("trial", run="run-few", trial="x<b>"))
    assert "has no trial yet" in text_of(page("trial", run="run-empty"))
    assert "There is no trial yet" in text_of(page("run", run="run-empty"))


def test_a_run_that_is_deleted_while_it_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENJING_HOME", str(tmp_path))
    write_run(tmp_path, 2, "run-gone", spans=False, calls=0)
    found = page("run", run="run-gone")
    with Records.open(tmp_path / "records.sqlite") as records, records.writing() as session:
        for table in ("trial", "proposal", "evaluation", "runevent", "run"):
            place = "id" if table == "run" else "run_id"
            session.connection().exec_driver_sql(f"DELETE FROM {table} WHERE {place} = 'run-gone'")  # noqa: S608
    found.run()
    assert not found.exception and "there is no run" in text_of(found)


def test_nothing_was_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENJING_HOME", str(tmp_path / "none"))
    assert "Nothing was recorded" in text_of(page("runs"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "put a proxy with a login in front, or say --serve-without-login"),  # noqa: S104
        (["--host", "203.0.113.7", "--serve-without-login"], "is no address of this machine"),
    ],
)
def test_where_it_may_be_served(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["ui", *arguments])
    assert result.exit_code == 2 and words in result.stderr


@pytest.mark.slow
def test_a_finished_search_of_500_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENJING_HOME", str(tmp_path))
    page("run", run=write_run(tmp_path, 2, "run-warm"))
    write_run(tmp_path, 500, "run-large")
    begun = time.process_time()
    found = page("run", run="run-large")
    print(f"opened in {time.process_time() - begun:.2f} s of processor time")
    assert len(found.dataframe[0].value) == 500
