"""Turns a GGUF file into plain safetensors in transformers' format, once, and keeps the result in a cache."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tools.errors import InputError
from tools.fingerprint import is_whole, sampled_digest
from tools.staging import settle, staged_directory

Report = Callable[[str, float], None]

_FORMAT = 2  # raised when the same file would be converted in another way


def converted(gguf: Path, name: str, cache: Path, report: Report | None = None) -> Path:
    """The directory under `cache` with the weights of `gguf` in bf16, its tokenizer and its chat template.

    The first call converts (25 to 45 s for 135 M parameters), later ones find the directory. Processes that start at
    the same time wait for one conversion. `report` gets a message and the share done, 0 to 1. Raises InputError where
    the cache cannot be written.
    """
    from filelock import FileLock

    directory = conversion_directory(gguf, name, cache)
    if _is_converted(directory):
        return directory
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{directory.name}.lock"):
            if not _is_converted(directory):
                settle(directory)
                # One that was cut short is of no use to anybody.
                with staged_directory(directory, overwrite=True) as staged:
                    convert_gguf(gguf, staged, report)
    except OSError as error:
        if error.errno is None:
            raise
        raise InputError(
            f"Cannot write the model cache {cache}: {error.strerror}; set XDG_CACHE_HOME to a writable directory."
        ) from error
    return directory


def _is_converted(directory: Path) -> bool:
    files = list(directory.glob("*.safetensors"))
    return bool(files) and all(is_whole(file) for file in files)


def conversion_directory(gguf: Path, name: str, cache: Path) -> Path:
    """Where `converted` keeps what it makes of `gguf`."""
    with gguf.open("rb") as file:
        digest = sampled_digest(file, 0, gguf.stat().st_size)[:12]
    return cache / f"{name}-{digest}-{_FORMAT}"


def gguf_config(gguf: Path) -> dict[str, Any]:
    """What the header of a GGUF file says, as transformers' config has it; no weight is read."""
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    return dict(load_gguf_checkpoint(str(gguf), return_tensors=False)["config"])


def convert_gguf(gguf: Path, destination: Path, report: Report | None = None) -> None:
    """Write the model of a Llama-family GGUF file to `destination` as bf16 safetensors with config and tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tools.quiet import quiet_transformers

    notify = report or (lambda message, share: None)
    message = f"converting {gguf.name} to safetensors (once)"
    notify(message, 0.0)
    with quiet_transformers(), _reported_tensors(lambda share: notify(message, 0.3 + 0.6 * share)):
        tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name, local_files_only=True)
        notify(message, 0.3)
        loaded = AutoModelForCausalLM.from_pretrained(
            str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32, local_files_only=True
        )
        # The loader marks the model as quantised although its weights are dense, and such a model cannot be saved.
        values = {k: v for k, v in loaded.config.to_dict().items() if k not in ("quantization_config", "_name_or_path")}
        config = type(loaded.config).from_dict(values)
        with torch.device("meta"):
            plain = AutoModelForCausalLM.from_config(config)
        weights = {name: tensor.to(torch.bfloat16) for name, tensor in loaded.state_dict().items()}
        plain.load_state_dict(weights, assign=True)
        plain.tie_weights()
        plain.config.dtype = torch.bfloat16
        plain.generation_config = loaded.generation_config
        plain.save_pretrained(str(destination))
        _restore_digit_splitting(tokenizer, gguf)
        tokenizer.save_pretrained(str(destination))
    for file in destination.glob("*.safetensors"):
        # safetensors makes files that only their owner can read; the config's mode follows the umask.
        os.chmod(file, (destination / "config.json").stat().st_mode)  # noqa: PTH101
    notify(message, 1.0)


def _restore_digit_splitting(tokenizer: Any, gguf: Path) -> None:
    """SmolLM's tokenizer takes digits one by one; transformers' GGUF loader forgets this part of it."""
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers

    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )


@contextlib.contextmanager
def _reported_tensors(report: Callable[[float], None]) -> Iterator[None]:
    """Replace the loader's own progress bar, which writes to stderr, by calls of `report`."""
    from transformers import modeling_gguf_pytorch_utils as loader

    def reported(tensors: Iterable[Any], **_: Any) -> Iterator[Any]:
        items = list(tensors)
        for index, tensor in enumerate(items):
            report(index / len(items))
            yield tensor

    original = getattr(loader, "tqdm", None)
    setattr(loader, "tqdm", reported)  # noqa: B010 - not a public name, so mypy does not know it
    try:
        yield
    finally:
        setattr(loader, "tqdm", original)  # noqa: B010
