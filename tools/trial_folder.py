"""What a trial leaves in its folder, for those who only look: they need neither torch nor transformers."""

import os
from pathlib import Path

from pydantic import ValidationError

from tools.fingerprint import is_whole
from tools.measurement import Measurement

MEASUREMENT_FILE = "measurement.json"
MODEL_FOLDER = "model"
TASKS_FOLDER = "tasks"


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
