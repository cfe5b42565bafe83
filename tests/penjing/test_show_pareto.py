"""`penjing show --pareto`: the table, the JSON document, the picture, and names that do not exist; limits by --set."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from penjing.commands import app
from tests.fake_openai import FakeOpenAI

runner = CliRunner()


@pytest.fixture
def config_file(settings_of: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENJING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path / "cache"))
    plain = settings_of(tmp_path, trials=4)
    del plain["home"], plain["cache"], plain["max_parameters"]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


def refused(*arguments: str) -> str:
    result = runner.invoke(app, list(arguments))
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("penjing: ")]
    assert len(lines) == 1 and "Traceback" not in result.stderr, result.stderr
    return lines[0]


def shown(*arguments: str) -> dict[str, Any]:
    result = runner.invoke(app, ["show", "latest", "--json", *arguments])
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_a_limited_search_and_its_fronts(config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeOpenAI(seed=2, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        assert "above max_file_mb" in refused("search", str(config_file), "--set", "max_file_mb=0.0001")
        result = runner.invoke(app, ["search", str(config_file), "--set", "max_file_mb=0.2"])
    assert result.exit_code == 0, result.output
    assert "The weights file as gguf f16 must not exceed 0.2 MB (the source's: 0.301 MB)" in result.stderr

    document = shown("--pareto", "loss,latency_ms,file_mb")
    assert document["pareto_objectives"] == ["loss", "latency_ms", "file_mb"]
    figures = {
        trial["number"]: (trial["measurement"]["loss"], trial["measurement"]["latency_ms"], trial["file_mb"])
        for trial in document["trials"]
    }
    assert len(figures) == 4 and all(file <= 0.2 for _, _, file in figures.values())
    assert all(trial["over_limit"] is None for trial in document["trials"])
    expected = {
        number
        for number, mine in figures.items()
        if not any(
            other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in figures.values()
        )
    }
    assert set(document["pareto"]) == expected
    assert document["pareto"] == sorted(expected, key=lambda number: figures[number])
    assert shown()["pareto_objectives"] == ["parameters", "loss"]

    for names in ("loss,latency_ms", "memory_mb, loss,file_mb"):
        picture = tmp_path / f"{len(names)}.svg"
        result = runner.invoke(app, ["show", "latest", "--pareto", names, "--picture", str(picture)])
        assert result.exit_code == 0, result.output
        table = result.stdout.partition("Pareto front")[2].split()
        assert table[: names.count(",") + 2] == ["trial", *names.replace(" ", "").split(",")]
        drawn, plain = picture.read_text(), tmp_path / "plain.svg"
        assert runner.invoke(app, ["show", "latest", "--picture", str(plain)]).exit_code == 0
        assert drawn.count('<g id="axes_') > plain.read_text().count('<g id="axes_'), "one panel more"

    assert "did you mean 'latency_ms'" in refused("show", "latest", "--pareto", "loss,latency")
    assert "did you mean 'parameters'" in refused("show", "latest", "--pareto", "parameter,loss", "--picture", "x.png")
    assert "two or three different objectives" in refused("show", "latest", "--pareto", "loss")
    assert "measured no accuracy" in refused("show", "latest", "--pareto", "loss,accuracy")


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("max_file_mb=0", "greater than 0"),
        ("max_latency_ms=fast", "valid number"),
        ("file_format=q4", "'q4_k_m'"),
        ("max_file_bm=3", "did you mean 'max_file_mb'?"),
        ("objective=speed", "'loss' or 'accuracy'"),
        ("objective_tasks=[arc_esy]", "did you mean arc_easy"),
    ],
)
def test_bad_limits(config_file: Path, assignment: str, words: str) -> None:
    assert words in refused("search", str(config_file), "--set", assignment)
