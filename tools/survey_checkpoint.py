"""A survey in the middle of its warm-up, on disk: whoever takes the survey up again goes on from there, bit for bit."""

import json
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file

from tools.fingerprint import is_whole
from tools.pretraining.checkpoint import load_training_state, save_training_state
from tools.pretraining.state_files import NOTES_FILE, STATE_FILE, TENSOR_FILES, TRAINING_FOLDER
from tools.pretraining.trainer import Trainer
from tools.pruning.recording import Recording
from tools.staging import staged_directory

_TOTALS_FILE = "totals.safetensors"


class SurveyNotes(BaseModel):
    """What a survey knew of its source when it wrote its last checkpoint; `seconds` are those that it took."""

    model_config = ConfigDict(frozen=True)

    seconds: float
    loss: float
    latency_ms: float


def save_begun_survey(folder: Path, trainer: Trainer, recording: Recording, notes: SurveyNotes) -> None:
    """Replace the checkpoint in `folder`; a write that fails leaves the old one whole."""
    parts = {"ranking": recording.ranking.totals(), "statistics": recording.statistics.totals()}
    totals = {f"{part}.{name}": tensor.contiguous() for part, found in parts.items() for name, tensor in found.items()}
    with staged_directory(folder, overwrite=True) as staged:
        save_training_state(trainer, staged / TRAINING_FOLDER)
        save_file(totals | {"steps": torch.tensor([recording.steps])}, staged / _TOTALS_FILE)
        (staged / NOTES_FILE).write_text(notes.model_dump_json())


def begun_survey(folder: Path) -> SurveyNotes | None:
    """The notes of a survey that was interrupted; None where there is no whole checkpoint."""
    training = folder / TRAINING_FOLDER
    if not all(is_whole(file) for file in (folder / _TOTALS_FILE, *(training / name for name in TENSOR_FILES))):
        return None
    try:
        json.loads((training / STATE_FILE).read_bytes())
        return SurveyNotes.model_validate_json((folder / NOTES_FILE).read_bytes())
    except (OSError, ValueError):
        return None


def load_begun_survey(folder: Path, trainer: Trainer, recording: Recording) -> None:
    """Put trainer and recording where the checkpoint was."""
    load_training_state(trainer, folder / TRAINING_FOLDER)
    totals = load_file(folder / _TOTALS_FILE)
    recording.steps = int(totals.pop("steps").item())
    parts: dict[str, dict[str, torch.Tensor]] = {"ranking": {}, "statistics": {}}
    for key, tensor in totals.items():
        part, name = key.split(".", 1)
        parts[part][name] = tensor
    recording.ranking.restore(parts["ranking"])
    recording.statistics.restore(parts["statistics"])
