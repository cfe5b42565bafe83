"""Opens what is measured: a model in transformers' format, or one of ours with shapes per layer."""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from tools.export.compact import ARCHITECTURE_FILE, load_compact
from tools.sources import load_model


def open_model(path: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The live model in the directory `path`, in evaluation mode."""
    if (path / ARCHITECTURE_FILE).is_file():
        model = load_compact(path, path)
        torch.nn.Module.to(model, dtype)
        return model
    return load_model(path, dtype)
