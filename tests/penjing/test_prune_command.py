"""`penjing prune`: what it prints, its JSON, its exit codes, and one sentence for every mistake."""

import json
from pathlib import Path

import pytest
import typer
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from penjing.prune_command import prune
from tools.pruning.methods import METHODS

runner = CliRunner()
app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode="rich")
app.command()(prune)


@app.callback()
def penjing() -> None:
    """A second entry, so that typer keeps the command's name."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and a cache of the test's own."""
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def arguments(sources: dict[str, Path], corpus: Path) -> list[str]:
    """A prune of the tiny Llama to at most 140,000 of its 149,952 parameters, in steps that suit it."""
    steps = ["--ffn-multiple", "8", "--hidden-multiple", "8", "--calibration-tokens", "1024"]
    source = ["--source", str(sources["llama-tied"]), "--corpus", str(corpus)]
    return ["prune", *source, "--target-parameters", "140k", *steps]


def refused(*arguments: str) -> str:
    """The one sentence with which bad input ends."""
    result = runner.invoke(app, list(arguments))
    assert result.exit_code == 2, result.output
    assert result.stdout == "" and "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("penjing: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_help_teaches() -> None:
    result = runner.invoke(app, ["prune", "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert all(option in result.output for option in ("--target-parameters", "--method", "--types", "--json"))


def test_methods_are_listed() -> None:
    result = runner.invoke(app, ["prune", "--methods"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(METHODS)
    assert all(METHODS[line.split()[0]].description in line for line in lines)
    rows = json.loads(runner.invoke(app, ["prune", "--methods", "--json"]).stdout)["methods"]
    assert [row["method"] for row in rows] == list(METHODS) and rows[0]["types"] == ["attention", "ffn"]


def test_a_table_and_a_model(place: Path, arguments: list[str]) -> None:
    result = runner.invoke(app, [*arguments, "--method", "llm-pruner", "--output", "small"])
    assert result.exit_code == 0, result.output
    model = AutoModelForCausalLM.from_pretrained(place / "small")
    size = sum(parameter.numel() for parameter in model.parameters())
    assert "149,952" in result.stdout and size <= 140_000
    assert "llm-pruner" in result.stdout and "perplexity" in result.stdout and "s to judge and cut" in result.stdout
    assert f"Model: {place / 'small'} (" in result.stdout
    assert "taking evidence" in result.stderr and "measuring, pruned" in result.stderr, "a line for each phase"
    assert result.stderr.count("taking evidence") == 1


def test_json(place: Path, arguments: list[str], sources: dict[str, Path]) -> None:
    """One document on stdout, the same as in the directory, which has a name of its own by default."""
    result = runner.invoke(app, [*arguments, "--types", "ffn, attention", "--seed", "3", "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert Path(document["path"]) == place / f"{sources['llama-tied'].name}-penjing-140k"
    assert json.loads((Path(document["path"]) / "prune.json").read_text()) == document
    assert document["request"]["types"] == ["attention", "ffn"] and document["request"]["seed"] == 3
    assert document["architecture"]["hidden_size"] == 64
    assert document["after"]["parameters"] <= 140_000 < document["before"]["parameters"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--target-parameters", "small"], "--target-parameters 'small' cannot be used: a size is written like 115M"),
        (["--target-parameters", "0"], "target_parameters cannot be used"),
        (["--target-parameters", "1.5B"], "not below the source, which has 149,952"),
        (["--target-parameters", "1k"], "The smallest model that can be reached"),
        (["--method", "wander"], "There is no pruning method 'wander'; the methods are: llm-pruner"),
        (["--types", "ffn,heads"], "there is no type 'heads'; the types are: attention, ffn, stem"),
        (["--source", "nowhere"], "There is no directory 'nowhere'"),
        (["--damping", "0"], "damping cannot be used: Input should be greater than 0"),
    ],
)
def test_mistakes(place: Path, arguments: list[str], more: list[str], words: str) -> None:
    assert words in refused(*arguments, *more)
    assert not [path for path in place.iterdir() if path.name != "cache"]


def test_no_target() -> None:
    assert "--target-parameters 100M" in refused("prune")


def test_a_taken_directory(place: Path, arguments: list[str]) -> None:
    (place / "full").mkdir()
    (place / "full" / "file").write_text("")
    assert "is not empty" in refused(*arguments, "--output", "full")
    result = runner.invoke(app, [*arguments, "--output", "full", "--json"])
    assert json.loads(result.stdout)["exit_code"] == 2
