"""Hashes of files and of weights, equal on every machine that holds the same content."""

import hashlib
import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from tools.errors import InputError

_PART = 64 * 1024
_PARTS = 16
_WHOLE = _PART * _PARTS
_CONFIG_NOISE = ("transformers_version", "_name_or_path", "_model_name_or_path", "dtype", "torch_dtype")


def file_digest(path: Path) -> str:
    """SHA-256 of a whole file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sampled_digest(file: BinaryIO, offset: int, length: int) -> str:
    """SHA-256 of the length and of `length` bytes from `offset`; above 1 MiB of 16 spaced parts of 64 KiB."""
    digest = hashlib.sha256(struct.pack("<Q", length))
    if length <= _WHOLE:
        starts, size = [0], length
    else:
        starts, size = [index * (length - _PART) // (_PARTS - 1) for index in range(_PARTS)], _PART
    for start in starts:
        file.seek(offset + start)
        digest.update(file.read(size))
    return digest.hexdigest()


def safetensors_header(path: Path) -> dict[str, Any]:
    """Tensor names with dtype, shape and `data_offsets` (absolute file positions).

    Raises InputError where the file is damaged or shorter than its header says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
        try:
            header = json.loads(file.read(length)) if 8 + length <= size else None
        except ValueError:
            header = None
    if not isinstance(header, dict):
        raise InputError(f"{path} is damaged or cut short; fetch the file again.")
    header.pop("__metadata__", None)
    for entry in header.values():
        entry["data_offsets"] = [8 + length + position for position in entry["data_offsets"]]
        if entry["data_offsets"][1] > size:
            raise InputError(f"{path} is cut short; fetch the file again.")
    return header


def is_whole(path: Path) -> bool:
    """Whether there is a safetensors file at `path` that is as long as its header says."""
    try:
        safetensors_header(path)
    except (OSError, InputError):
        return False
    return True


def model_fingerprint(config: dict[str, Any], weight_files: Iterable[Path]) -> str:
    """16 hexadecimal digits of a model: its config and every tensor's name, type, shape and (sampled) data.

    It does not depend on how tensors are spread over files, nor on the version of transformers that wrote them. Of a
    tensor above 1 MiB, 16 evenly spaced parts of 64 KiB count, so that large models open quickly.
    """
    canonical = {key: value for key, value in config.items() if key not in _CONFIG_NOISE}
    tensors = {}
    for path in weight_files:
        with path.open("rb") as file:
            for name, entry in safetensors_header(path).items():
                start, end = entry["data_offsets"]
                tensors[name] = [entry["dtype"], entry["shape"], sampled_digest(file, start, end - start)]
    text = json.dumps([canonical, tensors], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
