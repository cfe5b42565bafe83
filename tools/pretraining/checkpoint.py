"""A training state on disk: weights, AdamW moments and position, as safetensors beside readable JSON."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tools.pretraining.state_files import STATE_FILE, TENSOR_FILES
from tools.pretraining.trainer import Trainer

_MOMENTS = ("exp_avg", "exp_avg_sq")


def save_training_state(trainer: Trainer, folder: Path) -> None:
    """Write the state of `trainer` to `folder`, which must not exist."""
    folder.mkdir()
    # named_parameters names a tied weight once.
    parameters = dict(trainer.model.named_parameters())
    save_file({name: value.detach().contiguous() for name, value in parameters.items()}, folder / TENSOR_FILES[0])
    state = trainer.optimizer.state
    moments = {
        f"{kind}.{name}": state[parameter][kind].contiguous()
        for name, parameter in parameters.items()
        for kind in _MOMENTS
        if parameter in state
    }
    save_file(moments, folder / TENSOR_FILES[1])
    (folder / STATE_FILE).write_text(json.dumps({"step": trainer.step, "losses": trainer.losses}, indent=1))


@torch.no_grad()
def load_training_state(trainer: Trainer, folder: Path) -> None:
    """Put the state in `folder` into `trainer`, whose model must have the same shapes.

    Raises ValueError where a shape differs: AdamW itself would take the wrong shape silently and fail a step later.
    """
    position = json.loads((folder / STATE_FILE).read_text())
    weights = load_file(folder / TENSOR_FILES[0])
    moments = load_file(folder / TENSOR_FILES[1])
    for name, parameter in trainer.model.named_parameters():
        if weights[name].shape != parameter.shape:
            raise ValueError(f"{name} is {tuple(weights[name].shape)} on disk, {tuple(parameter.shape)} in the model")
        parameter.copy_(weights[name])
        if f"{_MOMENTS[0]}.{name}" in moments:
            state = {kind: moments[f"{kind}.{name}"].to(parameter.device) for kind in _MOMENTS}
            # On the device, as the fused optimiser has it.
            step = torch.tensor(float(position["step"]), device=parameter.device)
            trainer.optimizer.state[parameter] = {"step": step, **state}
    trainer.step = position["step"]
    trainer.losses = list(position["losses"])
