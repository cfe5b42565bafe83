"""`penjing export` of model directories: what it prints, its JSON document, and one sentence for every mistake."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from penjing.commands import app

runner = CliRunner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENJING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "home"


def exported(*arguments: str) -> dict[str, Any]:
    result = runner.invoke(app, ["export", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def refused(*arguments: str) -> str:
    """The one sentence with which bad input ends."""
    result = runner.invoke(app, ["export", *arguments])
    assert result.exit_code == 2, result.output
    assert result.stdout == "" and "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("penjing: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_a_directory_in_every_format(sources: dict[str, Path], tmp_path: Path) -> None:
    source = str(sources["llama-tied"])
    plain = exported(source, str(tmp_path / "hf"))
    assert plain["class_name"] == "LlamaForCausalLM" and plain["trial"] is None and plain["quantisation"] is None
    assert (tmp_path / "hf" / "README.md").is_file() and (tmp_path / "hf" / "penjing.json").is_file()
    assert exported(source, str(tmp_path / "half"), "--dtype", "bfloat16")["dtype"] == "bfloat16"
    assert exported(source, str(tmp_path / "one.gguf"))["file"] == "one.gguf"
    quantised = exported(source, str(tmp_path / "small"), "--quantise", "q4_k_m")
    assert quantised["path"] == str(tmp_path / "small" / "model-Q4_K_M.gguf")
    found = quantised["quantisation"]
    assert found["fallback_tensors"] == sum(len(one["tensors"]) for one in found["fallbacks"]) == 22
    assert "22 of" in quantised["notes"][0] and found["growth"] > 0.1
    shown = runner.invoke(app, ["export", source, str(tmp_path / "again"), "--quantise", "q4_k_m"])
    assert "fell back to other types" in shown.stdout and "% larger for it" in shown.stdout
    alike = exported(source, str(tmp_path / "alike"), "--compact")
    assert not alike["remote_code"] and "no code comes along" in alike["notes"][0]


def test_mistakes(sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source, out = str(sources["llama-tied"]), str(tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert "no config.json" in refused("empty", out)
    assert "no config.json" in refused(str(tmp_path / "empty"), out)
    assert "There is no run 'nothing'" in refused("nothing", out)
    assert "is a model and no run" in refused(source, "3", out)
    assert "no quantisation 'q4'" in refused(source, out, "--quantise", "q4")
    assert "written as gguf only" in refused(source, out, "--quantise", "q8_0", "--format", "hf")
    assert "different widths anyway" in refused(source, out, "--compact", "--format", "gguf")
    assert "no dtype 'int4'" in refused(source, out, "--dtype", "int4")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "diary.txt").write_text("dear diary")
    assert "exists already" in refused(source, out)
    assert "holds other files" in refused(source, out, "--overwrite")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["diary.txt"]
    (tmp_path / "file").write_text("")
    assert "is a file" in refused(source, str(tmp_path / "file"))
    assert "is a file" in refused(str(tmp_path / "file"), out)
    result = runner.invoke(app, ["export", "nothing", out, "--json"])
    assert json.loads(result.stdout)["exit_code"] == result.exit_code == 2


def test_the_command_line_starts_without_torch() -> None:
    probe = "import sys, penjing.export_command; print({'torch', 'transformers', 'gguf'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
