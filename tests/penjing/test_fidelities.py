"""What the commands tell of a search over several fidelities: every loss with its own, and who went up."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from graph.session import SearchSession
from penjing.commands import app
from penjing.figures.best_so_far import best_so_far_picture
from penjing.figures.pareto import pareto_picture

runner = CliRunner()


def said(*arguments: str) -> str:
    result = runner.invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout + result.stderr


def test_what_is_told_of_promotions(
    settings_of: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENJING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    plain = settings_of(tmp_path, trials=6, llm_share=0.0)
    plain |= {"fidelities": ["one_shot", "short_training"], "reduction_factor": 3}
    del plain["home"], plain["cache"]
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(plain))
    out = said("search", str(tmp_path / "tiny.yaml"))
    (run,) = [path.name for path in (tmp_path / "home" / "runs").iterdir()]
    with SearchSession.open(run, tmp_path / "home")._records as records:
        trials = records.trials(run)
    up = [trial for trial in trials if trial.rungs[1:]]
    assert len(up) >= 2
    for trial in up:
        place = trial.rungs[1].promotion.removeprefix("promoted to short training: ")
        assert f"trial {trial.number} promoted from one-shot repair to short training: {place}" in out

    show = said("show", run)
    assert "measured after" in show and "Promotions" in show
    assert all(f"{trial.loss:.4f}" in show and trial.rungs[1].promotion.split(": ")[1] in show for trial in up)
    document = json.loads(said("show", run, "--json"))
    told = {one["number"]: [rung["fidelity"] for rung in one["rungs"]] for one in document["trials"]}
    assert told == {trial.number: [rung.fidelity for rung in trial.rungs] for trial in trials}
    assert document["budget"]["trials"]["spent"] == 6 and document["best_loss"] == min(one.loss or 99 for one in up)

    story = said("trace", run, str(up[0].number))
    first, second = (rung.measurement for rung in up[0].rungs)
    assert first is not None and second is not None
    assert f"after one-shot repair: loss {first.loss:.4f}" in story
    assert f"{up[0].rungs[1].promotion}\nafter short training: loss {second.loss:.4f}" in story
    assert up[0].rungs[1].promotion in said("trace", run)
    assert "promoted from one-shot repair" in said("show", run, "--events")

    dry = json.loads(said("search", str(tmp_path / "tiny.yaml"), "--dry-run", "--json"))
    # One in three of six goes up, by 2 steps of 2 blocks of 32 tokens.
    assert dry["training_tokens"]["trial"] == 0 and dry["training_tokens"]["all"] == 2 * 128

    curve, front = best_so_far_picture(trials), pareto_picture(trials)
    (panel,) = curve.panels
    assert "after one-shot repair" in panel.y_label and "best there: trial" in curve.summary
    points = [y for series in panel.series if series.kind == "points" for y in series.y]
    assert sorted(points) == sorted(trial.on_first_rung().loss or 0 for trial in trials)
    assert "after short training" in front.panels[0].y_label
    measured = [n for series in front.panels[0].series if series.kind == "points" for n in series.trials]
    assert sorted(measured) == sorted(trial.number for trial in up)
