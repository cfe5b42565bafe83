"""Where designs are evaluated changes nothing: one seed, one search."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from graph.config import SearchConfig
from graph.session import SearchSession


def searched(config: SearchConfig) -> list[Any]:
    session = SearchSession.start(config)
    session.run()
    assert all(not trial.cached for trial in session.trials())
    return [
        (trial.architecture.hash, trial.loss, trial.measurement and trial.measurement.training_losses)
        for trial in session.trials()
    ]


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["processes:2", "ray"])
@pytest.mark.timeout(300)
def test_one_search(
    workers: str,
    config_of: Callable[..., SearchConfig],
    survey_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if workers == "ray":
        pytest.importorskip("ray", reason="Ray is not installed: uv pip install -e '.[ray]'")
    # As many threads as a Ray task of one core has.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    settings = {"trials": 3, "llm_share": 0, "judge": "random"}
    try:
        local = searched(config_of(**settings, cache=survey_cache))
    finally:
        torch.set_num_threads(before)
    home, cache = tmp_path / "other home", tmp_path / "other cache"
    assert searched(config_of(**settings, workers=workers, home=home, cache=cache)) == local
