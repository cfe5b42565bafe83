"""What a design costs to keep and to run, as far as the design alone says it; and which limits that breaks.

MB are 10^6 bytes. Parameters are counted by `Architecture`; these are the costs beside them:

- file: the tensors of the GGUF file of `file_format`; header and tokenizer come on top.
- memory: that file, which llama.cpp maps as it is, and an f16 key/value cache of `memory_context` tokens; activations
  and the program come on top.
"""

import math
from functools import lru_cache

from pydantic import BaseModel, ConfigDict

from tools.architecture import Architecture
from tools.settings import FileFormat, GoalSettings


class Excess(BaseModel):
    """A limit that something breaks: the limit's setting, its value, and what was found instead, both in `unit`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: str
    most: float
    found: float
    unit: str

    @property
    def by(self) -> float:
        """How much too much it is."""
        return self.found - self.most

    def __str__(self) -> str:
        # As many decimals as show the difference.
        decimals = max(1, 1 - math.floor(math.log10(self.by)))
        found, by = (f"{value:,.{decimals}f}" for value in (self.found, self.by))
        return f"{found} {self.unit}, {by} above {self.limit} {self.most:,.10g}"


@lru_cache(maxsize=1024)
def file_mb(design: Architecture, file_format: FileFormat) -> float:
    """Size of the design's tensors in a GGUF file, exact.

    It need not fall with every cut: a row that is no multiple of its type's block takes a larger type.
    """
    from tools.export.quantisation import predicted_file

    return predicted_file(design, file_format).bytes / 1e6


def memory_mb(design: Architecture, file_format: FileFormat, context: int) -> float:
    """Memory of the weights and of a key/value cache of `context` tokens, both as the file has them."""
    from tools.export.gguf_layout import written_architecture

    return file_mb(design, file_format) + context * written_architecture(design).kv_cache_bytes_per_token() / 1e6


def most_parameters(source: Architecture, goal: GoalSettings) -> int:
    """A bound on the parameters of any part of `source` within the limits on file and memory; the source's at most."""
    from tools.export.quantisation import MIXES, bits_per_weight

    # Every other type that a mix uses, by rule or by fallback, takes more bits than its base.
    least_bytes = bits_per_weight(MIXES[goal.file_format].base) / 8
    most = float(source.parameters)
    if goal.max_file_mb is not None:
        most = min(most, goal.max_file_mb * 1e6 / least_bytes)
    if goal.max_memory_mb is not None:
        # Every layer keeps one key/value head at least.
        cache = goal.memory_context * len(source.layers) * 4 * source.fixed.head_dim
        most = min(most, (goal.max_memory_mb * 1e6 - cache) / least_bytes)
    return math.floor(most)


def file_excess(design: Architecture, goal: GoalSettings) -> Excess | None:
    """By how much the design's file is too large."""
    if goal.max_file_mb is None:
        return None
    unit = f"MB as {goal.file_format}"
    return _excess("max_file_mb", goal.max_file_mb, file_mb(design, goal.file_format), unit)


def memory_excess(design: Architecture, goal: GoalSettings) -> Excess | None:
    """By how much the design takes too much memory."""
    if goal.max_memory_mb is None:
        return None
    unit = f"MB as {goal.file_format} with the KV cache of {goal.memory_context:,} tokens"
    found = memory_mb(design, goal.file_format, goal.memory_context)
    return _excess("max_memory_mb", goal.max_memory_mb, found, unit)


def latency_excess(latency_ms: float | None, goal: GoalSettings) -> Excess | None:
    """By how much a measured decoding is too slow."""
    if goal.max_latency_ms is None or latency_ms is None:
        return None
    return _excess("max_latency_ms", goal.max_latency_ms, latency_ms, "ms per token")


def limits_in_words(source: Architecture, goal: GoalSettings) -> list[str]:
    """Each limit beside the parameters as a sentence for agents and people.

    The source's own figure is told where the design alone says it.
    """
    words = []
    if goal.max_file_mb is not None:
        found = file_mb(source, goal.file_format)
        words.append(
            f"The weights file as gguf {goal.file_format} must not exceed {goal.max_file_mb:,.10g} MB "
            f"(the source's: {_figure(found)} MB)."
        )
    if goal.max_memory_mb is not None:
        found = memory_mb(source, goal.file_format, goal.memory_context)
        words.append(
            f"The memory, that of the weights as {goal.file_format} and of the key/value cache of "
            f"{goal.memory_context:,} tokens, must not exceed {goal.max_memory_mb:,.10g} MB "
            f"(the source's: {_figure(found)} MB)."
        )
    if goal.max_latency_ms is not None:
        most = f"{goal.max_latency_ms:,.10g} ms"
        words.append(f"Writing a token must not take more than {most}, measured on this machine.")
    return words


def _figure(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.3g}"


def costs_in_words(design: Architecture, latency_ms: float | None, goal: GoalSettings) -> list[str]:
    """What a design costs of each thing that is limited, and by how much too much; nothing where nothing is limited."""
    words = []
    if goal.max_file_mb is not None:
        words.append(str(file_excess(design, goal) or f"file {_figure(file_mb(design, goal.file_format))} MB"))
    if goal.max_memory_mb is not None:
        found = memory_mb(design, goal.file_format, goal.memory_context)
        words.append(str(memory_excess(design, goal) or f"memory {_figure(found)} MB"))
    if goal.max_latency_ms is not None and latency_ms is not None:
        words.append(str(latency_excess(latency_ms, goal) or f"{_figure(latency_ms)} ms per token"))
    return words


def _excess(limit: str, most: float, found: float, unit: str) -> Excess | None:
    return Excess(limit=limit, most=most, found=found, unit=unit) if found > most else None
