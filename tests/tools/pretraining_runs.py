"""Tiny requests for pruning-aware pretraining, and what their runs wrote down."""

import json
from pathlib import Path
from typing import Any

import pytest

from tools.pretrain import PretrainRequest, pretrain
from tools.requests import Progress
from tools.settings import DataSettings, Recipe, WidthSettings
from tools.sources import resolve_source

RECIPE = Recipe(warmup_steps=3, batch_size=2, micro_batch_size=1, drop_share=0.5, precision="float32")
NARROW = WidthSettings(ffn_multiple=8, hidden_multiple=4)
CODE = "import sys; from tools.pretrain import *; pretrain(PretrainRequest.model_validate_json(sys.argv[1]))"


@pytest.fixture
def pretraining_request(sources: dict[str, Path], corpus: Path, tmp_path: Path) -> Any:
    """A request for a tiny model on a tiny corpus, with changes."""

    def make(
        family: str = "llama-tied", output: str = "out", recipe: dict[str, Any] | None = None, **changes: Any
    ) -> Any:
        size = resolve_source(str(sources[family])).architecture.parameters
        values: dict[str, Any] = {
            "source": str(sources[family]),
            "corpus": str(corpus),
            "output": tmp_path / output,
            "tokens": 15 * 2 * 16,
            "target_parameters": round(0.75 * size),
            "widths": NARROW,
            "recipe": RECIPE.model_copy(update=recipe or {}),
            "data": DataSettings(block_length=16, validation_tokens=256),
            "checkpoint_steps": 4,
            "cache": tmp_path / "cache",
        }
        return PretrainRequest.model_validate(values | changes)

    return make


def log_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def losses_of(output: Path) -> list[float]:
    return [line["loss"] for line in log_of(output) if "event" not in line]


def drops_of(output: Path) -> list[dict[str, Any]]:
    return [line for line in log_of(output) if line.get("event") == "drop"]


def interrupt(request: PretrainRequest, step: int, phase: str = "growing") -> None:
    """Run `request` until so many steps of a phase are done, and no further."""

    def stop(progress: Progress) -> None:
        if progress.phase == phase and progress.done == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(request, stop)
