"""What a model costs on a small device, as plain data: counts, file sizes, speeds, and where they were taken."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Engine = Literal["torch", "llama.cpp"]
Container = Literal["hf", "gguf"]


class Figures(BaseModel):
    """Plain, immutable data."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Spread(Figures):
    """Repeats of one measurement: median, quartiles and extremes."""

    median: float
    lower_quartile: float
    upper_quartile: float
    minimum: float
    maximum: float
    repeats: int = Field(ge=1)

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value; quartiles are interpolated, a single value is all of them."""
        single = [values[0]] * 3
        lower, median, upper = single if len(values) == 1 else statistics.quantiles(values, n=4, method="inclusive")
        return cls(
            median=median,
            lower_quartile=lower,
            upper_quartile=upper,
            minimum=min(values),
            maximum=max(values),
            repeats=len(values),
        )


class Machine(Figures):
    """Where figures were taken; `load_average` is that of the minute before, which others made."""

    processor: str
    instructions: tuple[str, ...]
    cores: int
    memory_gb: float
    system: str
    load_average: float | None
    torch: str
    transformers: str
    xllamacpp: str


class Counts(Figures):
    """Sizes that follow from the shapes alone.

    `parameters` counts tied weights once and leaves out the zeros that pad layers to equal widths; `padded_parameters`
    has them, as the model is in the directory. Embeddings are the input embedding and the output head. A token's
    multiply-accumulates (MACs) and key/value cache are those of the unpadded design; `macs_per_token` is for a token
    that attends to `context_length` tokens, itself among them; the cache holds float16.
    """

    parameters: int
    parameters_without_embeddings: int
    padded_parameters: int
    macs_per_token: int
    context_length: int
    kv_cache_bytes_per_token: int


class FileSize(Figures):
    """Bytes of the weights in one format.

    `origin` says how the size is known: "found" is the directory's own file, "written" was measured on a file written
    for this, "predicted" follows from shapes. For formats with blocks of 256 weights a row, such as q4_k_m, the shares
    say how much of the quantised tensors falls back to a larger type because their rows are no multiple of 256.
    """

    container: Container
    format: str
    bytes: int
    origin: Literal["found", "written", "predicted"]
    fallback_tensors: float | None = None
    fallback_parameters: float | None = None


class Speed(Figures):
    """How fast one engine runs one format, at batch size 1, after a repeat to warm up.

    `prefill_ms` are milliseconds to read the prompt of `prompt_tokens`, which gives the first new token; `decode_ms`
    are milliseconds for each of the `new_tokens` after it, the mean of a repeat. Spreads are over the repeats.
    `peak_memory_mb` is the largest resident set of a process that does nothing else, in megabytes of 10^6 bytes, with a
    key/value cache for this text alone, and `engine_memory_mb` what it held of that before the model was there.
    """

    engine: Engine
    format: str
    threads: int
    prompt_tokens: int
    new_tokens: int
    prefill_ms: Spread
    decode_ms: Spread
    peak_memory_mb: float
    engine_memory_mb: float

    @property
    def prefill_ms_per_token(self) -> float:
        """Median milliseconds of the prompt's reading for each of its tokens."""
        return self.prefill_ms.median / self.prompt_tokens


class NotMeasured(Figures):
    """Why an engine gave no speed in a format.

    "unsupported" is the model's or the machine's nature and said before the start; the others are how it ended.
    """

    engine: Engine
    format: str
    kind: Literal["unsupported", "out_of_memory", "time_limit", "crashed"]
    message: str


class EdgeCost(Figures):
    """All of it for one model."""

    model: Path
    machine: Machine
    counts: Counts
    file_sizes: tuple[FileSize, ...]
    speeds: tuple[Speed, ...]
    not_measured: tuple[NotMeasured, ...] = ()

    def speed(self, engine: Engine, format: str) -> Speed | None:
        """The speed of `engine` in `format`, where it was measured."""
        return next((one for one in self.speeds if (one.engine, one.format) == (engine, format)), None)

    def file_size(self, container: Container, format: str) -> FileSize | None:
        """The size of the weights in `format`; one that is on disk before one that is predicted."""
        found = [one for one in self.file_sizes if (one.container, one.format) == (container, format)]
        return min(found, key=lambda one: one.origin == "predicted", default=None)
