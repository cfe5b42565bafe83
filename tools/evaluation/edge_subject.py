"""A model directory as measuring sees it: its files, the design inside it, and its GGUF files."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from tools.architecture import Architecture
from tools.errors import InputError
from tools.evaluation.edge_counts import counts_of_any, counts_of_design
from tools.evaluation.edge_figures import Counts
from tools.evaluation.edge_model import open_model
from tools.export.compact import ARCHITECTURE_FILE, WEIGHTS_FILE, design_tensors, model_from_tensors
from tools.export.gguf import export_gguf
from tools.export.unpadding import design_within, unpadded
from tools.families import architecture_from_config
from tools.sources import resolve_source, weight_files


@dataclass(frozen=True)
class EdgeSubject:
    """A model directory. `padded` is what it holds and `design` the same without padding.

    Both are None where Penjing does not know the family; `unknown` says so.
    """

    path: Path
    config: dict[str, Any]
    files: tuple[Path, ...]
    padded: Architecture | None = None
    design: Architecture | None = None
    unknown: str = ""

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding."""
        return int(_text_config(self.config)["vocab_size"])

    def require_length(self, tokens: int) -> None:
        """Raises InputError where the model has no positions for so many tokens."""
        most = _text_config(self.config).get("max_position_embeddings")
        if most is not None and tokens > int(most):
            raise InputError(
                f"{self.path} reads at most {most} tokens and {tokens} were asked for: lower prompt_tokens or "
                "new_tokens."
            )

    def counts(self, context_length: int) -> Counts:
        """Parameters, MACs at `context_length`, and cache bytes."""
        if self.design is None or self.padded is None:
            return counts_of_any(self.path, context_length)
        return counts_of_design(self.design, self.padded, context_length)

    def load(self) -> PreTrainedModel:
        """The live model of `design`, in float32. Raises InputError where the family is not known."""
        if self.design is None or self.padded is None:
            raise InputError(self.unknown)
        model = open_model(self.path, torch.float32)
        if self.padded == self.design:
            return model
        tensors = unpadded(design_tensors(model, self.padded), self.padded, self.design)
        return model_from_tensors(model.config, self.design, tensors)

    def write_ggufs(self, folder: Path, formats: Sequence[str], say: Callable[[str], None]) -> "Written":
        """A file for each of `formats`, of the design without padding; what cannot be written is said instead."""
        if self.design is None:
            return Written({}, dict.fromkeys(formats, self.unknown))
        files, refused = {}, {}
        model = self.load()
        for name in formats:
            say(f"writing {name}")
            try:
                files[name] = export_gguf(model, self.design, self.path, folder / f"{name}.gguf", dtype=name).path
            except InputError as error:
                refused[name] = str(error)
        return Written(files, refused)


@dataclass(frozen=True)
class Written:
    """GGUF files by format, and by format why there is none."""

    files: dict[str, Path]
    refused: dict[str, str]


def open_subject(path: Path) -> EdgeSubject:
    """The model in `path`: a directory in transformers' format, or one of ours with shapes per layer.

    Raises InputError where there is none.
    """
    config = _config(path)
    if (path / ARCHITECTURE_FILE).is_file():
        design = Architecture.model_validate_json((path / ARCHITECTURE_FILE).read_bytes())
        return EdgeSubject(path, config, (path / WEIGHTS_FILE,), design, design)
    try:
        padded = architecture_from_config(config)
    except InputError as error:
        _require_known(path, config)
        return EdgeSubject(path, config, tuple(weight_files(path)), unknown=f"No GGUF file can be written: {error}")
    # Checks all files too.
    source = resolve_source(str(path))
    files = tuple(weight_files(source.path))
    return EdgeSubject(source.path, config, files, padded, _design_in(files, padded))


def _require_known(path: Path, config: dict[str, Any]) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if config.get("model_type") not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise InputError(
            f"{path} holds a model of type {config.get('model_type')!r}, for which transformers has no class of its "
            "own: what it costs can only be measured of families that transformers knows."
        )


def _design_in(files: Sequence[Path], padded: Architecture) -> Architecture:
    with ExitStack() as stack:
        opened = [stack.enter_context(safe_open(file, framework="pt")) for file in files]
        # Tensors are mapped, not read, so all of them may be more than memory holds.
        tensors = {name: file.get_tensor(name) for file in opened for name in file.keys()}  # noqa: SIM118 - no dict
        return design_within(tensors, padded)


def _config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    try:
        config = json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(
            f"{path} has no config.json; give a directory with a model in transformers' format."
        ) from error
    except ValueError as error:
        raise InputError(f"{file} is no valid JSON; fetch the file again.") from error
    if not isinstance(config, dict):
        raise InputError(f"{file} is no JSON object; fetch the file again.")
    return config


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part that tells of the language model, in configs that tell of images too."""
    return {**config, **config.get("text_config", {})}
