"""`penjing plot`: SVG and PNG files of a run, without a browser."""

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from penjing.commands import app
from tests.many_trials import write_run

runner = CliRunner()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plot")
    write_run(folder, 8, "run-few", spans=False)
    write_run(folder, 0, "run-empty", spans=False)
    return folder


def test_files_of_a_run(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENJING_HOME", str(filled))
    result = runner.invoke(app, ["plot", "run-few", "--out", str(tmp_path / "pictures"), "--trial", "0", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    names = ("best_so_far", "pareto_parameters", "pareto_latency", "lineage", "shapes", "training", "drops")
    assert [row["picture"] for row in told["files"]] == [name for name in names for _ in range(2)]
    assert told["trial"] == 0 and len(list((tmp_path / "pictures").iterdir())) == 14
    for row in told["files"]:
        file = Path(row["file"])
        if file.suffix == ".png":
            with Image.open(file) as image:
                assert image.width > 800 and len(image.convert("RGB").getcolors(1 << 20) or []) > 20, "not blank"
        else:
            assert file.read_text().startswith("<?xml")
    refused = runner.invoke(app, ["plot", "run-few", "--out", str(tmp_path / "pictures")])
    assert refused.exit_code == 2 and "--overwrite" in refused.stderr
    for arguments, words in (
        (["run-few", "--trial", "99"], "has no trial 99; its trials are 0 to 7."),
        (["run-empty"], "nothing to draw yet"),
        (["nothing"], "there is no run 'nothing'"),
    ):
        result = runner.invoke(app, ["plot", *arguments])
        assert result.exit_code == 2 and words in result.stderr
