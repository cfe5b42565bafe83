"""The model that is evaluated: found, told apart from others by what is in its files, loaded, and checked."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tools.errors import InputError
from tools.fingerprint import file_digest, safetensors_header
from tools.quiet import quiet_transformers
from tools.sources import load_tokenizer, locate_model, weight_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Report = Callable[[str, float], None]

_TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)


@dataclass(frozen=True)
class EvaluatedModel:
    """A model's directory. `digest` (SHA-256) covers config, whole weights, tokenizer and, where it is run, its code.

    `parameters` are those in the files, tied ones once and padding included.
    """

    name: str
    path: Path
    digest: str
    parameters: int
    runs_own_code: bool


def find_model(
    name: str, trust_remote_code: bool = False, report: Report | None = None, cache: Path | None = None
) -> EvaluatedModel:
    """The model `name` of whatever family, found as `tools.sources.locate_model` does.

    Raises InputError where there is none, or where it needs code of its own and `trust_remote_code` is not set.
    """
    path = locate_model(name, report, cache)
    files = weight_files(path)
    if report is not None:
        report(f"reading {path.name}", 0.0)
    own_code = _needs_own_code(path)
    if own_code and not trust_remote_code:
        raise InputError(
            f"{path} needs Python code that comes with the model, and code of strangers is not run; read it, and allow "
            "it with --trust-remote-code (trust_remote_code=True)."
        )
    try:
        headers = [safetensors_header(file) for file in files]
        digest = _digest(path, files, own_code)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check its files.") from error
    return EvaluatedModel(
        name=name,
        path=path,
        digest=digest,
        parameters=sum(prod(entry["shape"]) for header in headers for entry in header.values()),
        runs_own_code=own_code,
    )


def load_evaluated(model: EvaluatedModel) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Model (float32, evaluation mode) and tokenizer, on the CPU.

    Raises InputError where transformers cannot load them, where weights are missing or of another shape, or where the
    tokenizer makes tokens that the embedding does not have.
    """
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(model.path)
    try:
        with quiet_transformers():
            loaded, info = cast(
                "tuple[PreTrainedModel, dict[str, set[str]]]",
                AutoModelForCausalLM.from_pretrained(
                    str(model.path),
                    dtype=torch.float32,
                    local_files_only=True,
                    trust_remote_code=model.runs_own_code,
                    use_safetensors=True,
                    output_loading_info=True,
                ),
            )
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(f"transformers cannot load the model in {model.path}: {reason}.") from error
    missing = sorted(info["missing_keys"])
    if missing:
        # transformers fills them at random, and the figures would be those of another model.
        raise InputError(f"{model.path} lacks the weights {missing[0]} ({len(missing)} in all); fetch the model again.")
    _require_embedded(tokenizer, vocabulary_of(loaded), model.path)
    return loaded.eval(), tokenizer


def unpadded_parameters(model: EvaluatedModel) -> int:
    """Parameters without zeros that pad layers to equal widths; of families that cannot be cut, all in the files."""
    from tools.evaluation.edge_subject import open_subject

    try:
        design = open_subject(model.path).design
    except InputError:
        return model.parameters  # it can be evaluated all the same
    return model.parameters if design is None else design.parameters


def vocabulary_of(model: "PreTrainedModel") -> int:
    """How many tokens the model's embedding has."""
    return int(model.get_input_embeddings().get_parameter("weight").shape[0])


def _needs_own_code(path: Path) -> bool:
    """Whether transformers has no class of its own for the causal model in `path`."""
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    if "AutoModelForCausalLM" not in config.get("auto_map", {}):
        return False
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return config.get("model_type") not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def _digest(path: Path, files: list[Path], own_code: bool) -> str:
    code = sorted(path.glob("*.py")) if own_code else []
    others = [path / "config.json", *(path / name for name in _TOKENIZER_FILES if (path / name).is_file()), *code]
    named = {file.name: file_digest(file) for file in others}
    text = json.dumps([named, sorted(file_digest(file) for file in files)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _require_embedded(tokenizer: "PreTrainedTokenizerBase", rows: int, path: Path) -> None:
    """Refuse a tokenizer that text can drive beyond the embedding, as after a mixed-up copy.

    Special tokens beyond it are let through: some families add marks for pictures that their text models never see.
    """
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    outside = sorted(set(tokenizer.get_vocab().values()) - special)[-1]
    if outside >= rows:
        raise InputError(
            f"The tokenizer in {path} has {outside + 1:,} tokens, but the model's embedding has {rows:,}; put the "
            "model's own tokenizer there."
        )
