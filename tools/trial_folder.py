"""What a trial leaves in its folder, for those who only look: they need neither torch nor transformers."""

import json
import os
import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tools.fingerprint import is_whole
from tools.measurement import Measurement
from tools.pretraining.state_files import (
    GROWTH_FILE,
    GROWTH_TENSOR_FILE,
    NOTES_FILE,
    STATE_FILE,
    TENSOR_FILES,
    TRAINING_FOLDER,
)

MEASUREMENT_FILE = "measurement.json"
MODEL_FOLDER = "model"
TASKS_FOLDER = "tasks"
CHECKPOINT_FOLDER = "checkpoint"


class TrialNotes(BaseModel):
    """What a trial knew when it wrote its last checkpoint; `seconds` are those that it took until then."""

    model_config = ConfigDict(frozen=True)

    seconds: float
    loss_before_training: float | None = None


def stored_measurement(folder: Path) -> Measurement | None:
    """The result that a trial left in its folder, or None, also where a fault of the disk has spoilt it."""
    try:
        return Measurement.model_validate_json((folder / MEASUREMENT_FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def store_measurement(folder: Path, measurement: Measurement) -> None:
    """Write `measurement` into the trial's folder, whole or not at all."""
    path = folder / MEASUREMENT_FILE
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(measurement.model_dump_json(indent=1))
    beside.replace(path)


def has_weights(folder: Path) -> bool:
    """Whether the grown model is still in the trial's folder, and whole."""
    return is_whole(folder / MODEL_FOLDER / "model.safetensors")


def begun_trial(folder: Path) -> TrialNotes | None:
    """The notes of a trial that was interrupted, and can be gone on with; None where there is no whole checkpoint."""
    checkpoint = folder / CHECKPOINT_FOLDER
    training = checkpoint / TRAINING_FOLDER
    tensors = (checkpoint / GROWTH_TENSOR_FILE, *(training / name for name in TENSOR_FILES))
    if not all(is_whole(file) for file in tensors):
        return None
    try:
        for file in (checkpoint / GROWTH_FILE, training / STATE_FILE):
            json.loads(file.read_bytes())
        return TrialNotes.model_validate_json((checkpoint / NOTES_FILE).read_bytes())
    except (OSError, ValueError):
        return None


def count_anew(folder: Path) -> None:
    """The seconds that a trial took until now are recorded elsewhere: whoever goes on with it counts only its own."""
    notes = begun_trial(folder)
    if notes is not None:
        path = folder / CHECKPOINT_FOLDER / NOTES_FILE
        beside = path.with_name(f".{path.name}")
        beside.write_text(notes.model_copy(update={"seconds": 0.0}).model_dump_json())
        beside.replace(path)


def drop_checkpoint(folder: Path) -> None:
    """Nobody goes on with this trial."""
    shutil.rmtree(folder / CHECKPOINT_FOLDER, ignore_errors=True)
