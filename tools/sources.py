"""The source model: found by name, checked, and loaded. Weights come as safetensors only, never with remote code."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tools.architecture import Architecture
from tools.errors import InputError
from tools.families import architecture_from_config
from tools.fingerprint import model_fingerprint
from tools.quiet import quiet_transformers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "Source",
    "architecture_from_config",
    "check_model_name",
    "load_model",
    "load_tokenizer",
    "locate_model",
    "resolve_source",
    "source_at_hand",
    "weight_files",
]

Report = Callable[[str, float], None]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")
_WANTED = ["*.json", "*.safetensors", "*.jinja", "*.txt", "tokenizer.model", "LICENSE*"]
_UNWANTED = ["*/*", "consolidated*"]
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True)
class Source:
    """A model that can be cut: `path` is a local directory in transformers' format.

    `fingerprint` (16 hexadecimal digits) covers config and weights, of tensors above 1 MiB only evenly spaced samples;
    it is the same on every machine (`tools.fingerprint.model_fingerprint`).
    """

    name: str
    path: Path
    fingerprint: str
    architecture: Architecture


def resolve_source(name: str, report: Report | None = None, cache: Path | None = None) -> Source:
    """Find the model `name` as `locate_model` does, and describe it.

    Raises InputError where there is no such model, or it cannot be cut.
    """
    return _described(name, locate_model(name, report, cache))


def locate_model(name: str, report: Report | None = None, cache: Path | None = None) -> Path:
    """The local directory of the model `name`, of whatever family.

    `name` is the embedded "smollm2-135m", a local directory, a GGUF file, or a hub name `owner/model[@revision]`. A hub
    model that is complete in the local hub cache is taken from there without a network. The embedded model and GGUF
    files are converted at their first use, which takes up to a minute for 135 M parameters, and kept in `cache`
    (default: the user's cache folder); `report` gets a message and the share done. Raises InputError where there is no
    such model.
    """
    check_model_name(name)
    place, gguf = Path(name).expanduser(), _gguf(name)
    if gguf is not None:
        return _converted(*gguf, cache, report)
    return place.resolve() if place.is_dir() else _from_hub(name)


def check_model_name(name: str) -> None:
    """Raise InputError where `name` is no local model and cannot be one of the hub's; reads nothing, asks nobody."""
    from tools.embedded import EMBEDDED_NAME

    place = Path(name).expanduser()
    if _gguf(name) is not None or place.is_dir():
        return
    if place.is_file():
        raise InputError(f"{name} is a file; give the directory that holds config.json and the safetensors weights.")
    if _HUB_NAME.fullmatch(name):
        return
    raise InputError(
        f"There is no directory {name!r}; give a model's directory, a hub name (owner/model) or {EMBEDDED_NAME!r}."
    )


def source_at_hand(name: str, cache: Path | None = None) -> Source | Architecture:
    """As `resolve_source`; only the shapes where that would have to download or convert weights.

    Raises InputError as `resolve_source` does, as far as the shapes tell.
    """
    import platformdirs

    from tools.gguf_source import conversion_directory, gguf_config

    place, folder = Path(name).expanduser(), cache or platformdirs.user_cache_path("penjing") / "sources"
    gguf = _gguf(name)
    if gguf is not None:
        path: Path | None = conversion_directory(*gguf, folder)
        if path is not None and path.is_dir():
            return _described(name, path)
        return _shapes(name, gguf_config(gguf[0]))
    if place.exists() or not _HUB_NAME.fullmatch(name):
        return _described(name, locate_model(name, cache=cache))
    path = _cached_snapshot(name)
    return _described(name, path) if path is not None else _shapes(name, _hub_config(name))


def weight_files(path: Path) -> list[Path]:
    """The safetensors files of the model in the directory `path`.

    Raises InputError where there is no model in transformers' format, or only one in pickles.
    """
    _config(path)
    return _weight_files(path)


def _gguf(name: str) -> tuple[Path, str] | None:
    """The GGUF file that the model `name` is converted from, and the name of that; None where it is none."""
    from tools.embedded import EMBEDDED_NAME, embedded_model_file

    if name == EMBEDDED_NAME:
        return embedded_model_file(), name
    place = Path(name).expanduser()
    return (place.resolve(), place.stem) if place.is_file() and place.suffix.lower() == ".gguf" else None


def _converted(gguf: Path, name: str, cache: Path | None, report: Report | None) -> Path:
    import platformdirs

    from tools.gguf_source import converted

    try:
        return converted(gguf, name, cache or platformdirs.user_cache_path("penjing") / "sources", report)
    except (ValueError, KeyError, IndexError) as error:
        # The loader tells apart what it cannot read by its words only.
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{gguf} cannot be converted ({_first(error)}); give the model's directory in transformers' format."
        ) from error


def load_model(path: Path, dtype: "torch.dtype | None" = None) -> "PreTrainedModel":
    """The causal language model in the directory `path`, in `dtype` (default float32), in evaluation mode."""
    import torch
    from transformers import AutoModelForCausalLM

    with quiet_transformers():
        return cast(
            "PreTrainedModel",
            AutoModelForCausalLM.from_pretrained(
                str(path),
                dtype=torch.float32 if dtype is None else dtype,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            ),
        )


def load_tokenizer(path: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer in the directory `path`. Raises InputError where there is none that can be read."""
    from transformers import AutoTokenizer

    if not any((path / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise InputError(f"{path} has no tokenizer; copy the model's tokenizer.json and tokenizer_config.json there.")
    try:
        if (path / "tokenizer.json").is_file() and "model" not in json.loads((path / "tokenizer.json").read_bytes()):
            raise ValueError("tokenizer.json says nothing of a model")
        with quiet_transformers():
            return cast(
                "PreTrainedTokenizerBase",
                AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=False),
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"The tokenizer in {path} cannot be read; fetch its files again ({_first(error)}).") from error


def _described(name: str, path: Path) -> Source:
    config = _config(path)
    files = _weight_files(path)
    architecture = _shapes(name, config, path / "config.json")
    return Source(name=name, path=path, fingerprint=model_fingerprint(config, files), architecture=architecture)


def _shapes(name: str, config: dict[str, Any], file: Path | None = None) -> Architecture:
    try:
        return architecture_from_config(config)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{file or name} describes no usable model: {_first(error)}.") from error


def _hub_config(name: str) -> dict[str, Any]:
    """The config of a hub model, a few kilobytes."""
    from huggingface_hub import HfApi

    repository, _, revision = name.partition("@")
    with _hub_failures(name):
        api = HfApi()
        api.model_info(repository, revision=revision or None, timeout=10)
        return _config(Path(api.hf_hub_download(repository, "config.json", revision=revision or None)).parent)


def _config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    if not file.is_file():
        raise InputError(f"{path} has no config.json; give a directory with a model in transformers' format.")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is no valid JSON; fetch the file again.") from error
    if not isinstance(config, dict):
        raise InputError(f"{file} is no JSON object; fetch the file again.")
    return config


def _weight_files(path: Path) -> list[Path]:
    """The safetensors files that transformers would load."""
    single, index = path / "model.safetensors", path / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{index} is damaged; fetch the file again.") from error
        missing = [file for file in names if Path(file).name != file or not (path / file).is_file()]
        if missing:
            raise InputError(f"{path} lacks {missing[0]}, which its index names; fetch the model again.")
        return [path / file for file in names]
    if any(True for pattern in _PICKLES for _ in path.glob(pattern)):
        raise InputError(
            f"{path} has only pickled weights, which can run code and are refused; convert them where you trust them, "
            "with AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW)."
        )
    raise InputError(f"{path} has no model.safetensors; give a directory with a model in transformers' format.")


def _from_hub(name: str) -> Path:
    """Download a snapshot, or take it from the hub's cache where it is complete there."""
    from huggingface_hub import HfApi

    cached = _cached_snapshot(name)
    if cached is not None:
        return cached
    repository, _, revision = name.partition("@")
    with _hub_failures(name):
        # One plain request first: it fails at once without a network, where a download would try again and again.
        HfApi().model_info(repository, revision=revision or None, timeout=10)
        return _snapshot(name, local_files_only=False)


def _snapshot(name: str, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    return Path(
        snapshot_download(
            repository,
            revision=revision or None,
            allow_patterns=_WANTED,
            ignore_patterns=_UNWANTED,
            local_files_only=local_files_only,
        )
    )


def _cached_snapshot(name: str) -> Path | None:
    """The snapshot in the hub's cache where it is complete there."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    with contextlib.suppress(LocalEntryNotFoundError, InputError):
        cached = _snapshot(name, local_files_only=True)
        _config(cached)
        _weight_files(cached)
        return cached
    return None


@contextlib.contextmanager
def _hub_failures(name: str) -> Iterator[None]:
    """What the hub refuses, in one sentence."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError is that of the HTTP client in use
        GatedRepoError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository, _, revision = name.partition("@")
    try:
        yield
    except GatedRepoError as error:
        raise InputError(
            f"The hub model {repository} is gated: accept its terms on huggingface.co/{repository} and set HF_TOKEN."
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(
            f"The hub model {repository} has no revision {revision!r}; leave out what follows @."
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"There is no directory {name} and no public hub model {repository}; check the name, "
            "and set HF_TOKEN if the model is private."
        ) from error
    except (HTTPError, OSError) as error:
        raise InputError(
            f"There is no directory {name}, and the hub cannot be reached for the model {repository}; "
            f"check the network or give a local directory ({_first(error)})."
        ) from error


def _first(error: Exception) -> str:
    """The first line of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
