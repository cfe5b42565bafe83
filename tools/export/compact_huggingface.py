"""Exports a model with layers of different widths at its own size, with the code that opens it in transformers.

No stock class has layers of different widths. The directory holds one Python file beside the weights, whose classes
read `per_layer_config` in config.json, in the form that transformers has for it: layer -> its own values. transformers
runs the file only where it is told to, with trust_remote_code=True.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PreTrainedModel

from tools.architecture import Architecture
from tools.export.compact import ARCHITECTURE_FILE, WEIGHTS_FILE, design_tensors, rms_norm_eps, write_tensors
from tools.export.compact_config import CODE_FILE, compact_config
from tools.export.config_file import write_config
from tools.export.directories import copy_text_files, may_be_replaced, require_apart
from tools.export.report import ExportReport
from tools.rounding import in_dtype
from tools.staging import staged_directory


def export_compact(
    model: PreTrainedModel,
    architecture: Architecture,
    source_path: Path,
    destination: Path,
    overwrite: bool = False,
    dtype: torch.dtype = torch.float32,
    finish: Callable[[Path, ExportReport], None] | None = None,
) -> ExportReport:
    """Write the live, cut `model` of `architecture` to `destination` without any padding, with code that opens it.

    The same arguments, report and errors as `tools.export.huggingface.export_huggingface`. The directory is also one
    that `tools.export.compact.load_compact` reads.
    """
    require_apart(destination, source_path)
    tensors = {name: in_dtype(name, tensor, dtype) for name, tensor in design_tensors(model, architecture).items()}
    config = compact_config(model.config, architecture, rms_norm_eps(model), dtype)
    with staged_directory(destination, overwrite, may_replace=may_be_replaced) as staged:
        write_config(staged, config)
        (staged / ARCHITECTURE_FILE).write_text(architecture.model_dump_json(indent=1) + "\n", encoding="utf-8")
        shutil.copyfile(Path(__file__).parent / "remote_code" / CODE_FILE, staged / CODE_FILE)
        copy_text_files(source_path, staged)
        write_tensors(staged / WEIGHTS_FILE, tensors, config["rms_norm_eps"])
        report = ExportReport(
            path=destination,
            class_name=config["architectures"][0],
            parameters=architecture.parameters,
            file_parameters=architecture.parameters,
            padded=False,
            bytes=(staged / WEIGHTS_FILE).stat().st_size,
            dtype=config["dtype"],
            remote_code=True,
        )
        if finish is not None:
            finish(staged, report)
    return report
