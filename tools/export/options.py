"""What a user may ask of an export, checked before anything heavy is done."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tools.errors import InputError
from tools.export.quantisation import checked_mix

ExportFormat = Literal["hf", "gguf"]

_DTYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


@dataclass(frozen=True)
class ExportOptions:
    """A checked request. `dtype` is a mix for gguf; for hf float32, float16, bfloat16, or None: as the weights are."""

    format: ExportFormat
    dtype: str | None
    compact: bool = False
    overwrite: bool = False


def export_options(
    destination: Path,
    format: ExportFormat | None = None,
    quantise: str | None = None,
    compact: bool = False,
    dtype: str | None = None,
    overwrite: bool = False,
) -> ExportOptions:
    """What is meant by these. Without a format it is gguf where a quantisation or a file name says so, else hf.

    Raises InputError for what does not go together or does not exist.
    """
    is_file = destination.suffix == ".gguf"
    chosen: ExportFormat = format or ("gguf" if quantise or is_file else "hf")
    if chosen == "hf":
        if quantise is not None:
            raise InputError("Quantised weights are written as gguf only; leave out format hf, or the quantisation.")
        if is_file:
            raise InputError(f"{destination} names a GGUF file; give a directory for the format hf.")
        return ExportOptions("hf", None if dtype is None else _long_name(dtype), compact, overwrite)
    if compact:
        raise InputError("A GGUF file holds layers of different widths anyway; leave out compact, or the format gguf.")
    if quantise is not None and dtype is not None:
        raise InputError(f"Quantisation {quantise} says all types of the file; leave out dtype {dtype}.")
    mix = checked_mix(quantise) if quantise is not None else _DTYPES[_long_name(dtype or "f16")]
    return ExportOptions("gguf", mix, False, overwrite)


def _long_name(dtype: str) -> str:
    for name, short in _DTYPES.items():
        if dtype.lower() in (name, short):
            return name
    raise InputError(f"There is no dtype {dtype!r}; choose one of {', '.join(_DTYPES)}.")
