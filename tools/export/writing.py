"""One export from start to end: the right writer for what was asked, and the model card beside the weights."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from tools.architecture import Architecture
from tools.export.card_files import read_card, require_same_model, write_card
from tools.export.compact_huggingface import export_compact
from tools.export.gguf import export_gguf
from tools.export.huggingface import export_huggingface
from tools.export.model_card import CardFile, ModelCard
from tools.export.model_directory import require_fitting_tokenizer
from tools.export.options import ExportOptions
from tools.export.padded_shapes import padded_architecture
from tools.export.report import ExportReport
from tools.fingerprint import model_fingerprint
from tools.requests import Progress, ReportProgress
from tools.sources import weight_files

_NOT_COMPACT = "All layers are alike, so the stock class is as small as a compact export, and no code comes along."


def export_model(
    model: PreTrainedModel,
    architecture: Architecture,
    source_path: Path,
    destination: Path,
    options: ExportOptions,
    card: ModelCard,
    report: ReportProgress = lambda progress: None,
) -> ExportReport:
    """Write the live `model`, the tokenizer in `source_path`, and `card` with what was written.

    A single GGUF file (`destination` ends in .gguf) has no card beside it. A GGUF file may go into the directory of an
    earlier export of the same model; its card then names both. Raises InputError as the writers do, where the tokenizer
    does not fit the model, and where the directory holds another model's export.
    """
    require_fitting_tokenizer(source_path, architecture.fixed.vocab_size)
    card = card.model_copy(update={"name": destination.absolute().name, "files": ()})
    has_window = _slides(model.config.to_dict())

    def finish(directory: Path, written: ExportReport) -> None:
        earlier = read_card(directory)
        file = CardFile.of(written, _fingerprint(directory) if options.format == "hf" else None)
        whole = card.with_file(file, () if earlier is None else earlier.files)
        write_card(directory, whole, has_window)

    if options.format == "gguf":
        single = destination.suffix == ".gguf"
        if not single:
            require_same_model(destination, card)
        return export_gguf(
            model,
            architecture,
            source_path,
            destination,
            overwrite=options.overwrite,
            dtype=options.dtype or "f16",
            finish=None if single else finish,
            origin=card.origin,
            report=report,
        )
    report(Progress(phase="writing", done=0, total=1))
    dtype = getattr(torch, options.dtype) if options.dtype else next(model.parameters()).dtype
    if not options.compact:
        return export_huggingface(model, architecture, source_path, destination, options.overwrite, dtype, finish)
    if padded_architecture(architecture) != architecture:
        return export_compact(model, architecture, source_path, destination, options.overwrite, dtype, finish)
    written = export_huggingface(model, architecture, source_path, destination, options.overwrite, dtype, finish)
    return replace(written, remarks=(_NOT_COMPACT,))


def _fingerprint(directory: Path) -> str:
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return model_fingerprint(config, weight_files(directory))


def _slides(config: dict[str, Any]) -> bool:
    kinds = config.get("layer_types") or ["sliding_attention"]
    return bool(config.get("sliding_window")) and "sliding_attention" in kinds
