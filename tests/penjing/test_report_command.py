"""`penjing report`: one HTML file that needs nothing else, with everything in it and no word of a model as HTML."""

import html
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from penjing.commands import app
from tests.many_trials import HOSTILE, write_run

runner = CliRunner()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_run(folder, 12, "run-many", name="<b>mine</b>")
    write_run(folder, 0, "run-empty")
    return folder


@pytest.fixture(autouse=True)
def home(filled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENJING_HOME", str(filled))
    return filled


def test_one_file_with_everything(tmp_path: Path) -> None:
    file = tmp_path / "search.html"
    result = runner.invoke(app, ["report", "run-many", "--out", str(file), "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told == {"run": "run-many", "file": str(file), "bytes": file.stat().st_size}
    text = file.read_text()
    assert text.count("plotly.js v") == 1, "inlined once"
    page = text.replace(text[text.index("plotly.js v") : text.rindex('"use strict"')], "")
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page), "nothing is fetched"
    assert "default-src 'none'" in page
    for number in range(12):
        assert f'id="story-{number}"' in page
    for name in ("best_so_far", "pareto_parameters", "pareto_latency", "lineage", "shapes", "training", "drops"):
        data = re.search(rf'id="data-{name}">(.*?)</script>', page, re.DOTALL)
        assert data is not None and set(json.loads(data[1])) == {"light", "dark"}
    assert "agents&#39; answers: 11 raw" in page and "recipe.training_steps" in page
    assert "LLM tokens" in page and "22,440" in page


def test_words_of_models_and_users_are_text(tmp_path: Path) -> None:
    file = tmp_path / "search.html"
    assert runner.invoke(app, ["report", "run-many", "--out", str(file)]).exit_code == 0
    text = file.read_text()
    assert "<script>document.title" not in text and "<b>mine" not in text
    assert html.escape(HOSTILE, quote=True).replace("&#x27;", "&#39;") in text
    assert str(tmp_path) not in text and "home" not in re.findall(r'<th scope="row">([^<]+)</th>', text)


def test_what_exists_stays(tmp_path: Path) -> None:
    file = tmp_path / "search.html"
    file.write_text("mine")
    refused = runner.invoke(app, ["report", "run-many", "--out", str(file)])
    assert refused.exit_code == 2 and "--overwrite replaces it" in refused.stderr and file.read_text() == "mine"
    assert runner.invoke(app, ["report", "run-many", "--out", str(file), "--overwrite"]).exit_code == 0
    assert "<h1>" in file.read_text()
    assert runner.invoke(app, ["report", "run-many", "--out", str(tmp_path)]).exit_code == 2
    nowhere = runner.invoke(app, ["report", "run-many", "--out", str(tmp_path / "no" / "where.html")])
    assert nowhere.exit_code == 2 and "Cannot write" in nowhere.stderr
    assert "there is no run 'nothing'" in runner.invoke(app, ["report", "nothing"]).stderr


def test_a_run_without_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, ["report", "run-empty"])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "run-empty.html").read_text()
    assert "No trial was measured yet." in text and "plotly.js" not in text
