"""`penjing evaluate` and `penjing compare`: tables, JSON, Markdown, a picture, exit codes, one sentence a mistake."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from penjing.commands import app
from tests.tools.evaluation_data import write_tasks
from tools.evaluate import EvaluateResult
from tools.evaluation.paper_table import paper_rows
from tools.evaluation.tasks import SEVEN_TASKS, TASKS

runner = CliRunner()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: dict[str, Path]) -> Path:
    """A working directory with two models, task data and a text, and a cache of the test's own."""
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PENJING_TASK_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    write_tasks(tmp_path / "tasks")
    (tmp_path / "text.txt").write_text("The quick brown fox jumps over the lazy dog. " * 40)
    shutil.copytree(sources["llama-tied"], tmp_path / "small")
    shutil.copytree(sources["qwen2"], tmp_path / "other")
    return tmp_path


def run(*arguments: str) -> Any:
    """What a command that works gives."""
    result = runner.invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result


def refused(*arguments: str) -> str:
    """The one sentence with which bad input ends."""
    result = runner.invoke(app, list(arguments))
    assert result.exit_code == 2, result.output
    assert result.stdout == "" and "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("penjing: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_help_teaches() -> None:
    text = run("evaluate", "--help").output
    assert all(option in text for option in ("--tasks", "--task-data", "--perplexity", "--dense", "--json"))
    assert "PENJING_TASK_DATA" in text
    text = run("compare", "--help").output
    assert all(option in text for option in ("--paper", "--markdown", "--picture", "--evaluate", "--json"))


def test_tasks_are_listed() -> None:
    lines = run("evaluate", "--list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(TASKS)
    assert sum("one of the seven" in line for line in lines) == 7
    rows = json.loads(run("evaluate", "--list", "--json").stdout)["tasks"]
    assert [row["task"] for row in rows if row["in_average"]] == [name for name in TASKS if name in SEVEN_TASKS]
    assert {row["task"] for row in rows if row["on_hub"]} == {n for n, task in TASKS.items() if task.official}


def test_a_table_of_tasks() -> None:
    result = run("evaluate", "small", "--tasks", "piqa, copa", "--task-data", "tasks", "--limit", "3")
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    assert "acc_norm" in rows["task"] and "3 of 4" in rows["piqa"] and "±" in rows["piqa"] and "50.0" in rows["piqa"]
    assert rows["copa"].startswith("copa *") and rows["copa"].rstrip().endswith(" 3")
    assert "* copa is not the public task" in result.stdout
    assert "average of 1 of 7 tasks" in result.stdout and "missing: arc_challenge, arc_easy, boolq" in result.stdout
    assert "149,952 parameters" in result.stdout and "lm-eval 0.4" in result.stdout
    assert "piqa" in result.stderr.splitlines() and "copa" in result.stderr.splitlines(), "a line for each phase"
    again = run("evaluate", "small", "--tasks", "copa", "--task-data", "tasks", "--limit", "3")
    assert "copa * (cached)" in again.stdout and "copa, from the cache" in again.stderr


def test_a_table_of_perplexities_with_the_dense_value() -> None:
    options = ("--perplexity", "--text", "text.txt", "--limit-tokens", "0.3k", "--dense", "other")
    result = run("evaluate", "small", *options)
    lines = result.stdout.splitlines()
    (header,) = [line for line in lines if line.startswith("perplexity")]
    assert header.split() == ["perplexity", "value", "dense", "per", "bits/byte", "length", "stride", "tokens"]
    (row,) = [line for line in lines if line.startswith("seq-128 ")]
    assert row.split()[3] == "token" and row.split()[-3:-1] == ["128", "128"] and row.split()[1] != row.split()[2]
    assert "seq-2048: not taken, as the model's context is 256 tokens." in lines
    assert any(line.startswith("text: the beginning of text.txt (") and "sha256" in line for line in lines)
    assert any(line.startswith("beginning-of-text token: seq-128 none") for line in lines)
    (order,) = [line for line in lines if line.startswith("seq-128, nats per token on the same windows: ")]
    assert ": this model " in order or "; this model " in order
    assert "to the one before, standard error 0." in order
    assert "task " not in result.stdout, "no tasks where only the perplexity was asked for"


def test_json_and_the_written_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENJING_TASK_DATA", str(place / "tasks"))
    result = run("evaluate", "small", "--tasks", "boolq", "--output", "report", "--json", "--precision", "float32")
    document = json.loads(result.stdout)
    file = place / "report" / "evaluation.json"
    assert json.loads(file.read_text()) == document and document["file"] == str(file)
    (task,) = document["tasks"]
    assert task["task"] == "boolq" and task["items"] == 3 and task["precision"] == "float32"
    assert document["average_acc"]["tasks"] == ["boolq"] and len(document["average_acc"]["missing"]) == 6


def test_costs_are_compared_where_they_were_measured(place: Path) -> None:
    from tests.penjing.test_edge_table import COST, SPEED

    quantised = SPEED.model_copy(update={"format": "q4_k_m"})
    here = COST.model_copy(update={"speeds": (quantised,)})
    there = here.model_copy(update={"machine": COST.machine.model_copy(update={"processor": "Another CPU"})})
    for model, cost in (("small", here), ("other", there)):
        run("evaluate", model, "--tasks", "copa", "--task-data", "tasks", "--output", f"report-{model}")
        file = place / f"report-{model}" / "evaluation.json"
        result = EvaluateResult.model_validate_json(file.read_text()).model_copy(update={"edge": cost})
        file.write_text(result.model_dump_json())
    lines = run("compare", "report-small", "report-other").stdout.splitlines()
    assert all(name in lines[0] for name in ("copa *", "q4_k_m MB", "q4_k_m ms/token", "KV bytes/token"))
    assert lines[2].split()[-5:] == ["88.0", "12.0", "310.4", "-", "23,040"], "no time by torch"
    assert any("taken on different machines" in line for line in lines)
    assert not any("different machines" in line for line in run("compare", "report-small").stdout.splitlines())


def test_costs_fit_a_narrow_terminal_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from penjing.edge_table import edge_rows
    from penjing.evaluation_tables import print_evaluation
    from tests.penjing.test_edge_table import COST

    monkeypatch.setenv("COLUMNS", "80")
    found = json.loads(run("evaluate", "small", "--tasks", "copa", "--task-data", "tasks", "--json").stdout)
    result = EvaluateResult.model_validate(found)
    capsys.readouterr()
    print_evaluation(result.model_copy(update={"tasks": (), "edge": COST}))
    words = capsys.readouterr().out.split()
    for row in edge_rows(COST):
        assert row.value.split()[0] in words and set(row.note.split()) <= set(words), row


@pytest.mark.slow
def test_the_cost_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured by real processes, though few times, shown as a table, kept, and compared."""
    from tools.evaluation import edge_cost

    few = {"threads": 1, "repeats": 2, "prompt_tokens": 12, "new_tokens": 3, "formats": ("float32", "q4_k_m")}
    monkeypatch.setattr(edge_cost, "measure_edge", partial(edge_cost.measure_edge, **few))
    result = run("evaluate", "small", "--edge")
    assert "cost on this machine" in result.stdout and "KV cache per token" in result.stdout
    assert "llama.cpp, q4_k_m: decode" in result.stdout and "timing llama.cpp, q4_k_m" in result.stderr
    assert "lm-eval" not in result.stdout, "no tasks where only the cost was asked for"
    run("evaluate", "small", "--tasks", "copa", "--task-data", "tasks")
    lines = run("compare", "small").stdout.splitlines()
    assert "copa *" in lines[0] and all(name in lines[0] for name in ("q4_k_m MB", "q4_k_m ms/token", "torch ms/token"))
    (row,) = json.loads(run("compare", "small", "--json").stdout)["models"]
    assert row["decode_ms"] > 0 and row["torch_decode_ms"] > 0 and row["memory_mb"] > 1
    assert row["kv_cache_bytes_per_token"] == 3 * 2 * 4 * 16 * 2, "layers, keys and values, heads, width, float16"
    assert 0 < row["file_mb"] < 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate"], "There is no model: name its directory"),
        (["evaluate", "nowhere", "--tasks", "copa"], "There is no directory 'nowhere'"),
        (["evaluate", "tasks", "--tasks", "copa"], "has no config.json; give a directory with a model"),
        (["evaluate", "small", "--tasks", "copaa"], "There is no task 'copaa'; did you mean copa"),
        (["evaluate", "small", "--limit-tokens", "few", "--perplexity"], "--limit-tokens 'few' cannot be used"),
        (["evaluate", "small", "--perplexity", "--text", "nofile"], "The text nofile cannot be read"),
        (["evaluate", "small", "--precision", "double"], "precision cannot be used: Input should be 'auto'"),
        (["evaluate", "small", "--dense", "nowhere", "--tasks", "copa"], "There is no directory 'nowhere'"),
    ],
)
def test_mistakes(arguments: list[str], words: str, place: Path) -> None:
    data = ["--task-data", "tasks"] if len(arguments) > 1 else []
    assert words in refused(*arguments, *data)
    assert not (place / "cache" / "evaluations").exists()


def test_a_folder_without_the_task_is_said() -> None:
    assert "There is no folder" in refused("evaluate", "small", "--tasks", "copa", "--task-data", "missing")
    assert "is not on the hub" in refused("evaluate", "small", "--tasks", "copa")


@pytest.fixture
def evaluated() -> None:
    """Two evaluations in the cache."""
    for model in ("small", "other"):
        options = ("--task-data", "tasks", "--tasks", "piqa,boolq,copa")
        run("evaluate", model, *options)
        run("evaluate", model, "--perplexity", "--text", "text.txt")


@pytest.mark.usefixtures("evaluated")
def test_compare_reads_and_evaluates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("tools.evaluation.loaded_model.load_evaluated", refuse)
    result = run("compare", "small", "other")
    lines = [line for line in result.stdout.splitlines() if line.strip()]
    assert lines[0].split("  ")[0] == "model"
    for header in ("parameters", "BoolQ", "PIQA", "copa *", "average", "ppl 128", "ppl word", "bits/byte"):
        assert header in lines[0]
    assert lines[2].startswith("small ") and lines[3].startswith("other ") and "(2/7)" in lines[2]
    assert result.stdout.count("EfficientLLM") == 0
    document = json.loads(run("compare", "small", "other", "--json").stdout)
    small, other = document["models"]
    assert small["model"] == "small" and small["parameters"] == 149_952 and not small["paper"]
    own = json.loads(run("evaluate", "small", "--task-data", "tasks", "--tasks", "piqa,boolq", "--json").stdout)
    assert small["piqa"] == pytest.approx(100 * own["tasks"][0]["acc_norm"])
    assert small["boolq"] == pytest.approx(100 * own["tasks"][1]["acc"]), "boolq has no acc_norm"
    assert small["average"] == pytest.approx((small["piqa"] + small["boolq"]) / 2) and small["average_tasks"] == 2
    assert other["seq-128"] != small["seq-128"] and other["bits_per_byte"] > 0
    first, second = document["perplexity_orders"]["seq-128"]
    assert first["behind"] is None and second["behind"] == pytest.approx(second["loss"] - first["loss"], abs=1e-5)
    assert second["behind"] > 0 and second["error"] > 0 and isinstance(second["told_apart"], bool)
    assert f"ppl 128, nats per token on the same windows, the lowest first: {first['model']} " in result.stdout
    assert document["perplexity_orders"].keys() == {"seq-128"}, "pages have no windows, and the other context is short"


@pytest.mark.usefixtures("evaluated")
def test_a_narrow_terminal_gets_a_table_for_each_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("compare", "small", "other").stdout.splitlines()
    tables = [line for line in lines if line.startswith("model")]
    assert len(tables) == 2 and "PIQA" in tables[0] and "ppl 128" in tables[1] and "PIQA" not in tables[1]
    assert all(len(line) <= 80 for line in lines if line.startswith(("model", "small", "other")))
    lines = run("compare", "small", "--paper").stdout.splitlines()
    assert sum(line.startswith("paper: ") for line in lines) == 26, "not in the table of perplexities"


@pytest.mark.usefixtures("evaluated")
def test_the_paper_stands_beside(place: Path) -> None:
    result = run("compare", "small", "--paper", "--markdown")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("| model | parameters | MMLU | ARC-c | ARC-e | BoolQ | HellaSwag | OBQA | PIQA |")
    assert lines[1].startswith("|---|---:|") and lines[2].startswith("| small | 0.1M | - |")
    (best,) = [line for line in lines if line.startswith("| paper: EfficientLLM-A, 500B tokens | 134M |")]
    assert "| 50.5 (7/7) |" in best and "30.5" in best
    assert "arXiv 2502.06663, Table 2: the paper's own harness" in result.stdout
    assert "averages are not of the same tasks" in result.stdout, "two of seven here, seven there"
    assert "averages are not" not in run("compare", "small", "other").stdout
    assert sum(line.startswith("| paper: ") for line in lines) == 26
    run("compare", "small", "other", "--paper", "--picture", "figure.png")
    assert (place / "figure.png").read_bytes().startswith(b"\x89PNG")
    run("compare", "small", "--picture", "figure.svg")
    assert b"<svg" in (place / "figure.svg").read_bytes()


def test_the_papers_table_is_whole() -> None:
    rows = paper_rows()
    assert len(rows) == 26
    for row in rows:
        seven = [value for name in SEVEN_TASKS if (value := row.accuracies[name]) is not None]
        assert len(seven) == 7 and sum(seven) / 7 == pytest.approx(row.average, abs=0.011), row.model
    assert sum(row.accuracies["mmlu"] is None for row in rows) == 2, "MobileLLM's own paper has no MMLU"
    assert rows[0].parameter_count == 125e6 and rows[-1].parameter_count == 1.1e9


def test_compare_says_what_does_not_compare(place: Path) -> None:
    run("evaluate", "small", "--tasks", "piqa", "--task-data", "tasks", "--limit", "2")
    run("evaluate", "other", "--tasks", "piqa", "--task-data", "tasks")
    run("evaluate", "small", "--perplexity", "--text", "text.txt", "--limit-tokens", "200")
    run("evaluate", "other", "--perplexity", "--text", "text.txt")
    text = run("compare", "small", "other").stdout
    assert "PIQA: the models were not evaluated on the same data, so their figures do not compare." in text
    assert "ppl 128: the models were not evaluated on the same data" in text and "the lowest first" not in text
    run("evaluate", "small", "--tasks", "piqa", "--task-data", "tasks", "--precision", "bfloat16")
    run("evaluate", "other", "--tasks", "piqa", "--task-data", "tasks", "--precision", "float32")
    assert "PIQA: the models were computed in different precisions." in run("compare", "small", "other").stdout


def test_compare_evaluates_when_told(place: Path) -> None:
    sentence = refused("compare", "small", "other")
    assert "There is no saved evaluation of small: run `penjing evaluate small` first, or add --evaluate" in sentence
    options = ("--evaluate", "--tasks", "piqa", "--task-data", "tasks", "--json")
    rows = json.loads(run("compare", "small", "other", *options).stdout)["models"]
    assert [row["model"] for row in rows] == ["small", "other"] and all("piqa" in row for row in rows)
    assert json.loads(run("compare", "small", "other", "--json").stdout)["models"] == rows
    weights = place / "small" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert "no saved evaluation of small" in refused("compare", "small"), "figures of other weights are not taken"


def test_compare_takes_files_and_folders_of_evaluations(place: Path) -> None:
    run("evaluate", "small", "--tasks", "piqa", "--task-data", "tasks", "--output", "report")
    for name in ("report", "report/evaluation.json", str(place / "small")):
        (row,) = json.loads(run("compare", name, "--json").stdout)["models"]
        assert row["model"] == "small" and "piqa" in row
    shutil.copytree(place / "small", place / "same")
    run("evaluate", "same", "--tasks", "copa", "--task-data", "tasks")
    shutil.rmtree(place / "small")
    (row,) = json.loads(run("compare", "small", "--json").stdout)["models"]
    assert row["model"] == "same" and {"piqa", "copa"} <= set(row), "the same files under another name"
    shutil.copytree(place / "same", place / "small")
    (place / "report" / "evaluation.json").write_text("{}")
    assert "is no evaluation" in refused("compare", "report")
    assert "is no name of a picture" in refused("compare", "small", "--picture", "figure.bmp")
    assert "There is no folder" in refused("compare", "small", "--picture", "nowhere/figure.png")
