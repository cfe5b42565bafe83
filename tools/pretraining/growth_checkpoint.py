"""A growth in the middle of its schedule on disk: weights, optimiser, statistics, events, as safetensors beside JSON.

Going on from it is bit-exact on a CPU: the same losses, the same groups. With several ranks the statistics are summed
and the first rank goes on from the sum, the others from nothing, which is the same again.
"""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, PreTrainedModel

from tools.architecture import Architecture
from tools.errors import InputError
from tools.export.compact import model_from_tensors, rms_norm_eps
from tools.pretraining.checkpoint import load_training_state, save_training_state
from tools.pretraining.growth import Growth
from tools.pretraining.state_files import (
    GROWTH_FILE,
    GROWTH_TENSOR_FILE,
    NOTES_FILE,
    STATE_FILE,
    TENSOR_FILES,
    TRAINING_FOLDER,
)
from tools.pretraining.trainer import Trainer
from tools.pruning.blocks import blocks, embedding
from tools.pruning.drop_event import DropEvent
from tools.ranks import rank
from tools.staging import staged_directory

Notes = TypeVar("Notes", bound=BaseModel)
_EVENTS = TypeAdapter(list[DropEvent])


def save_growth(folder: Path, trainer: Trainer, growth: Growth, notes: BaseModel | None = None) -> None:
    """Replace the checkpoint in `folder`; a write that fails leaves the old one whole. All ranks must call.

    The live tensors may be larger than the design, while removed groups stand as zeros; both shapes are written.
    `notes` are kept beside for whoever asked for the training.
    """
    tensors = growth.tensors()
    if rank() > 0:
        return
    with staged_directory(folder, overwrite=True) as staged:
        save_training_state(trainer, staged / TRAINING_FOLDER)
        save_file(tensors, staged / GROWTH_TENSOR_FILE)
        state = {
            "design": growth.design.model_dump(mode="json"),
            "physical": physical_shape(trainer.model, growth.design).model_dump(mode="json"),
            "rms_norm_eps": rms_norm_eps(trainer.model),
            "events": _EVENTS.dump_python(growth.events, mode="json"),
        }
        (staged / GROWTH_FILE).write_text(json.dumps(state, indent=1))
        if notes is not None:
            (staged / NOTES_FILE).write_text(notes.model_dump_json())


def has_growth(folder: Path) -> bool:
    """Whether a checkpoint is there."""
    return (folder / GROWTH_FILE).is_file()


def notes_of_growth(folder: Path, kind: type[Notes]) -> Notes:
    """The notes that were saved with it. Raises InputError where the checkpoint is damaged."""
    try:
        return kind.model_validate_json((folder / NOTES_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"The checkpoint in {folder} is damaged: remove the folder to begin anew.") from error


def resumed_step(folder: Path) -> int:
    """The optimiser steps that were done at the checkpoint. Raises InputError where it is damaged."""
    try:
        return int(json.loads((folder / TRAINING_FOLDER / STATE_FILE).read_text())["step"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"The checkpoint in {folder} is damaged: remove the folder to begin anew.") from error


def load_model_of_growth(folder: Path, source_path: Path) -> PreTrainedModel:
    """The live model at its physical shape. Raises InputError where the checkpoint is damaged."""
    try:
        state = json.loads((folder / GROWTH_FILE).read_text())
        tensors = load_file(folder / TRAINING_FOLDER / TENSOR_FILES[0])
        config = AutoConfig.from_pretrained(str(source_path), local_files_only=True)
        config.rms_norm_eps = state["rms_norm_eps"]
        model = model_from_tensors(config, Architecture.model_validate(state["physical"]), tensors)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"The checkpoint in {folder} is damaged: remove the folder to begin anew.") from error
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model


def load_growth(folder: Path, trainer: Trainer, growth: Growth) -> None:
    """Put trainer and growth where the checkpoint was; the model is `load_model_of_growth`'s.

    Raises InputError where the checkpoint is damaged.
    """
    try:
        state = json.loads((folder / GROWTH_FILE).read_text())
        load_training_state(trainer, folder / TRAINING_FOLDER)
        events = _EVENTS.validate_python(state["events"])
        design = Architecture.model_validate(state["design"])
        growth.restore(load_file(folder / GROWTH_TENSOR_FILE), design, events)
    except (OSError, ValueError, KeyError, SafetensorError, ValidationError) as error:
        raise InputError(f"The checkpoint in {folder} is damaged: remove the folder to begin anew.") from error


def physical_shape(model: PreTrainedModel, design: Architecture) -> Architecture:
    """The architecture of the live tensors of a model whose living part is `design`."""
    layers = [
        shape.model_copy(
            update={
                "num_attention_heads": block.num_attention_heads,
                "num_key_value_heads": block.num_key_value_heads,
                "intermediate_size": block.down_proj.in_features,
            }
        )
        for block, shape in zip(blocks(model), design.layers, strict=True)
    ]
    return Architecture(fixed=design.fixed, hidden_size=embedding(model).embedding_dim, layers=tuple(layers))
