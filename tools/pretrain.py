"""Pruning-aware pretraining of one model: the source is trained, pruned while it trains, and trained on.

From Python: `penjing.pretrain(PretrainRequest(...))`; from the shell: `penjing pretrain`. Everything lands in the
output folder: `model/` (opens with transformers), `log.jsonl` (a line for each step and each event), `training.png`,
`design.png`, `result.json`, and while it runs `checkpoint/`, from which the same request goes on bit for bit.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tools.architecture import Architecture
from tools.errors import InputError
from tools.measurement import Failure
from tools.places import cache_folder
from tools.pruning.groups import PRUNING_TYPES, PruningType
from tools.requests import Progress
from tools.settings import DataSettings, Recipe, SpaceSettings, WidthSettings

CONFIG_FILE, RESULT_FILE, LOG_FILE = "config.json", "result.json", "log.jsonl"
CHECKPOINT_FOLDER, MODEL_FOLDER, LOCK_FILE = "checkpoint", "model", ".lock"
PICTURE_FILE, TRAINING_PICTURE_FILE = "design.png", "training.png"

LITTLE_LEFT = 0.05
"""Share of the source below which a target draws a warning; EfficientLLM's curve ends at 451M of 1.7B (Fig. A0)."""

Say = Callable[[Progress], None]


class PretrainRequest(BaseModel):
    """What to grow from what, on how many tokens.

    Give `target_parameters` and the design follows from the saliency, or a `target` design; with neither the source is
    trained as it is. Events come every `every`
    optimiser steps as in the paper, or, without it, `drops` events spread over `recipe.drop_share` of the steps after
    the warm-up, so that the target is reached on time whatever the token budget.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="folder, GGUF file or hub name of a Llama, Mistral, Qwen2 or Qwen3 model")
    corpus: str = Field(description="text: file, folder or hub name")
    output: Path = Field(description="folder for everything that comes out")
    tokens: int = Field(ge=1, description="training tokens in all, warm-up included")
    target_parameters: int | None = Field(None, ge=1, description="stop dropping at this size")
    target: Architecture | None = Field(None, description="or stop at this design")
    every: int | None = Field(None, ge=1, description="N: optimiser steps per dropped FFN channel, as in the paper")
    drops: int | None = Field(None, ge=1, description="events without `every`; null: one after each step")
    drop_curve: float = Field(1.0, gt=0, description="below 1 the early events drop more")
    calibration_steps: int = Field(
        0, ge=0, description="batches read for statistics before any training; dropping then starts at once"
    )
    types: tuple[PruningType, ...] = Field(PRUNING_TYPES, min_length=1, description="which groups may go")
    widths: WidthSettings = WidthSettings(ffn_multiple=1, hidden_multiple=1)
    recipe: Recipe = Recipe(drop_share=0.25)
    data: DataSettings = DataSettings()
    seed: int = 0
    checkpoint_steps: int = Field(200, ge=1, description="optimiser steps between two checkpoints")
    validation_steps: int | None = Field(
        None, ge=1, description="optimiser steps between two looks at the held-out text on the way; null: none"
    )
    cache: Path = Field(default_factory=cache_folder, description="folder for converted sources and packed corpora")

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if self.target_parameters is not None and self.target is not None:
            raise ValueError("give either target_parameters or target")
        if self.every is not None and self.target_parameters is None:
            raise ValueError("every goes with target_parameters; a target design is reached by a number of drops")
        return self

    @property
    def steps(self) -> int:
        """Optimiser steps that the token budget pays for."""
        return self.tokens // (self.recipe.batch_size * self.data.block_length)


class PretrainResult(BaseModel):
    """What came out. Losses are validation cross-entropies in nats per token; `failure` says why there is no model.

    `difference_error`: standard error of `loss` less `source_loss`, from their differences on each held-out block.
    """

    model_config = ConfigDict(frozen=True)

    status: Literal["finished", "failed"]
    source_parameters: int
    parameters: int
    architecture: Architecture
    source_loss: float | None = None
    loss: float | None = None
    difference_error: float | None = None
    tokens: int
    calibration_tokens: int = 0
    events: int
    seconds: float
    compilations: int = 0
    warnings: tuple[str, ...] = ()
    failure: Failure | None = None
    model: Path | None = None


class PretrainingStoppedError(Exception):
    """Training was asked to stop, and has written a checkpoint after `step` of its `steps` steps."""

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(f"stopped after step {step:,} of {steps:,}")
        self.step, self.steps = step, steps


def pretrain(
    request: PretrainRequest, report: Say = lambda progress: None, stop: Callable[[], bool] = lambda: False
) -> PretrainResult:
    """Grow `request.source` to its target and write it; go on from a checkpoint where the output folder has one.

    `stop` is asked after each step, on every rank. Where one says so, training stops there, and the same request goes
    on from there.

    Raises InputError for what the user can mend, and PretrainingStoppedError where it was stopped. A loss that is not
    finite and a lack of memory are results: the last good checkpoint stays.
    """
    from tools.pretraining.pretraining_run import run

    require_same_config(request)
    return run(request, report, stop, time.monotonic())


def finished_result(request: PretrainRequest) -> PretrainResult | None:
    """What an earlier run left in the output folder, if it was finished."""
    path = request.output / RESULT_FILE
    if not path.is_file():
        return None
    stored = PretrainResult.model_validate_json(path.read_text())
    return stored if stored.status == "finished" else None


def require_same_config(request: PretrainRequest) -> None:
    """Refuse an output folder that was begun with other settings. Raises InputError that names the differences."""
    path = request.output / CONFIG_FILE
    if not path.is_file():
        if request.output.is_dir() and any(path.name != LOCK_FILE for path in request.output.iterdir()):
            raise InputError(f"{request.output} holds other files; choose an empty folder as output.")
        return
    old, new = json.loads(path.read_text()), json.loads(request.model_dump_json())
    differences = [f"{key} was {old.get(key)!r} and is {new.get(key)!r}" for key in sorted(_differing(old, new))]
    if differences:
        raise InputError(
            f"{request.output} was begun with other settings ({'; '.join(differences[:4])}): "
            "give the same ones to go on, or another output folder to begin anew."
        )


def space_of(request: PretrainRequest, source: Architecture) -> SpaceSettings:
    """Budget and widths of the request. Raises InputError where the target is not below the source."""
    size = request.target.parameters if request.target is not None else request.target_parameters
    if size is None:
        return SpaceSettings(max_parameters=source.parameters, **request.widths.model_dump())
    if size >= source.parameters:
        raise InputError(
            f"The target of {size:,} parameters is not below the source's {source.parameters:,}: nothing would be "
            "pruned; lower it."
        )
    return SpaceSettings(max_parameters=size, **request.widths.model_dump())


def warning_of_target(target_parameters: int, source: Architecture) -> str | None:
    """A word on a target that leaves too little of the source to be worth starting from it, or None."""
    share = target_parameters / source.parameters
    if share >= LITTLE_LEFT:
        return None
    return (
        f"The target of {target_parameters:,} parameters keeps {share:.1%} of the source's {source.parameters:,}: "
        "little of what it knows is left. A smaller source, or a larger target, gives a better model."
    )


def _differing(old: dict[str, object], new: dict[str, object]) -> set[str]:
    # These make no difference to what is grown.
    free = {"cache", "output", "checkpoint_steps", "validation_steps"}
    return {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)} - free
