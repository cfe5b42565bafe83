"""`penjing pretrain` as users type it: the table, JSON, going on, and one sentence for each mistake."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import penjing
from penjing.commands import app
from tools.sources import resolve_source


@pytest.fixture
def run(sources: dict[str, Path], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command on a tiny model; options are added or override earlier ones."""
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path / "cache"))

    def call(*options: str, output: str = "out") -> Result:
        plain = ["--source", str(sources["llama-tied"]), "--corpus", str(corpus), "--output", str(tmp_path / output)]
        sets = ["recipe.warmup_steps=3", "recipe.batch_size=2", "recipe.micro_batch_size=1", "data.block_length=16"]
        assignments = [part for one in [*sets, "data.validation_tokens=256"] for part in ("--set", one)]
        plain += ["--tokens", "480", "--ffn-multiple", "8", "--hidden-multiple", "4", *assignments]
        return CliRunner().invoke(app, ["pretrain", *plain, *options])

    return call


def test_a_model_is_grown_and_told(run: Any, tmp_path: Path) -> None:
    done = run("--target-parameters", "85k")
    assert done.exit_code == 0, done.output
    assert "on the same held-out blocks" in done.stdout and "standard error 0." in done.stdout
    assert "grown" in done.stdout and "480 tokens" in done.stdout and str(tmp_path / "out") in done.stdout
    assert (tmp_path / "out" / "design.png").is_file()
    again = run("--target-parameters", "85k", "--json")
    document = json.loads(again.stdout)
    assert document["status"] == "finished" and document["parameters"] <= 85_000


def test_the_papers_rule_from_the_shell(run: Any) -> None:
    done = run("--target-parameters", "110k", "--every", "1", "--uniform", "--no-second-order", "--json")
    assert done.exit_code == 0, done.output
    layers = json.loads(done.stdout)["architecture"]["layers"]
    assert all(layer == layers[0] for layer in layers)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--target-parameters", "10M"), "is not below the source's"),
        (("--target-parameters", "1k"), "The smallest legal design has"),
        (("--target-parameters", "many"), "--target-parameters 'many' cannot be used"),
        (("--target-parameters", "85k", "--tokens", "40"), "not more than the 3 of the warm-up"),
        (("--target-parameters", "85k", "--types", "depth"), "there is no type 'depth'"),
        (("--target-parameters", "85k", "--set", "recipe.learnin_rate=1"), "did you mean 'recipe.learning_rate'?"),
        (("--target-parameters", "85k", "--drops", "90"), "90 drops do not fit"),
        (("--design", "nowhere.json"), "Cannot read nowhere.json"),
        (("--every", "2"), "every goes with target_parameters"),
    ],
)
def test_mistakes_are_told_in_one_sentence(run: Any, options: tuple[str, ...], sentence: str) -> None:
    done = run(*options)
    assert done.exit_code == 2 and sentence in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()[-1]) > 20


def test_a_target_that_attention_cannot_take(run: Any, sources: dict[str, Path], tmp_path: Path) -> None:
    """The layer, what is wrong with it, and the nearest legal shape."""
    design = resolve_source(str(sources["llama-tied"])).architecture.model_dump(mode="json")
    design["layers"][1] |= {"num_attention_heads": 7, "num_key_value_heads": 2}
    path = tmp_path / "design.json"
    path.write_text(json.dumps(design))
    done = run("--design", str(path))
    assert done.exit_code == 2 and "Layer 1: 7 query heads cannot be shared" in done.stderr
    assert "nearest legal: " in done.stderr


def test_a_failed_run_says_why_and_ends_with_1(run: Any) -> None:
    sets = ("--set", "recipe.learning_rate=1e30", "--set", "recipe.gradient_clipping=1e30")
    done = run("--target-parameters", "85k", *sets)
    assert done.exit_code == 1 and "Stopped: the" in done.stdout and "learning_rate" in done.stdout


def test_from_python(sources: dict[str, Path], corpus: Path, tmp_path: Path) -> None:
    request = penjing.PretrainRequest(
        source=str(sources["llama-tied"]),
        corpus=str(corpus),
        output=tmp_path / "out",
        tokens=480,
        target_parameters=85_000,
        widths=penjing.WidthSettings(ffn_multiple=8, hidden_multiple=4),
        recipe=penjing.Recipe(warmup_steps=3, batch_size=2, micro_batch_size=1),
        data=penjing.DataSettings(block_length=16, validation_tokens=256),
        cache=tmp_path / "cache",
    )
    assert penjing.pretrain(request).parameters <= 85_000
