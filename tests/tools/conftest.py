"""Fixtures of tiny searches and pretraining, and of evaluations of tiny models."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_search import config_of, corpus, places, settings_of
from tests.tools.evaluation_data import write_tasks
from tests.tools.pretraining_runs import pretraining_request
from tools.evaluate import EvaluateRequest

__all__ = ["config_of", "corpus", "places", "pretraining_request", "settings_of"]


@pytest.fixture
def task_data(tmp_path: Path) -> Path:
    """All tasks that tests know, in a folder."""
    return write_tasks(tmp_path / "data" / "tasks")


@pytest.fixture
def request_of(tmp_path: Path, task_data: Path, sources: dict[str, Path]) -> Callable[..., EvaluateRequest]:
    """A request for the tiny Llama in float32, with a cache of the test's own."""

    def make(*tasks: str, **more: Any) -> EvaluateRequest:
        values = {"model": str(sources["llama-tied"]), "tasks": tasks, "task_data": task_data, "precision": "float32"}
        return EvaluateRequest.model_validate({**values, "cache": tmp_path / "cache", **more})

    return make


@pytest.fixture
def model_copy(tmp_path: Path, sources: dict[str, Path]) -> Path:
    """The tiny Llama in a folder that may be changed."""
    return Path(shutil.copytree(sources["llama-tied"], tmp_path / "model"))
