"""A real disk that fills up during a pretraining: the old checkpoint stays whole, and nothing half done is left."""

from pathlib import Path

import pytest

from tests.small_disk import small_disk
from tools.errors import InputError
from tools.pretrain import PretrainRequest, pretrain
from tools.requests import Progress
from tools.settings import DataSettings, Recipe, WidthSettings


def test_the_last_checkpoint_outlives_a_full_disk(sources: dict[str, Path], corpus: Path, tmp_path: Path) -> None:
    request = PretrainRequest(
        source=str(sources["llama-tied"]),
        corpus=str(corpus),
        output=tmp_path / "whole",
        tokens=15 * 2 * 16,
        target_parameters=112_000,
        widths=WidthSettings(ffn_multiple=8, hidden_multiple=4),
        recipe=Recipe(warmup_steps=3, batch_size=2, micro_batch_size=1, precision="float32"),
        data=DataSettings(block_length=16, validation_tokens=256),
        checkpoint_steps=4,
        cache=tmp_path / "cache",
    )
    expected = pretrain(request)
    with small_disk(tmp_path / "small", 16) as disk:
        request = request.model_copy(update={"output": disk.place / "out"})
        checkpoint = request.output / "checkpoint"
        filled = []

        def fill(progress: Progress) -> None:
            if checkpoint.is_dir() and not filled:
                filled.append((checkpoint / "training" / "state.json").read_text())
                disk.fill()

        with pytest.raises(InputError, match="No space left on device; choose a directory") as caught:
            pretrain(request, fill)
        assert "\n" not in str(caught.value)
        assert (checkpoint / "training" / "state.json").read_text() == filled[0]
        assert sorted(path.name for path in request.output.iterdir() if ".partial" in path.name) == []
        disk.free()
        result = pretrain(request)
        assert (result.loss, result.tokens) == (expected.loss, expected.tokens)
