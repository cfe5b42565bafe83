"""What a model costs on a device, as the rows of a table: a label, a value, and what the value hangs on."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tools.evaluation.edge_figures import EdgeCost, FileSize, Machine, Speed, Spread

# Below this others hardly take time from the processor.
_QUIET = 0.2


class EdgeRow(NamedTuple):
    """One figure in words."""

    label: str
    value: str
    note: str


def edge_rows(cost: "EdgeCost") -> list[EdgeRow]:
    """All figures: counts, files, speeds, what could not be measured, and the machine."""
    counts = cost.counts
    padding = f"; {counts.padded_parameters:,} in the directory, padded with zeros"
    rows = [
        EdgeRow(
            "parameters",
            f"{counts.parameters:,}",
            "tied weights once" + (padding if counts.padded_parameters != counts.parameters else ""),
        ),
        EdgeRow("without embeddings", f"{counts.parameters_without_embeddings:,}", "nor output head"),
        EdgeRow(
            "MACs per token", f"{counts.macs_per_token / 1e6:,.1f} M", f"attending to {counts.context_length} tokens"
        ),
        EdgeRow("KV cache per token", f"{counts.kv_cache_bytes_per_token:,} bytes", "float16"),
    ]
    rows += [_file_row(size) for size in cost.file_sizes]
    for speed in cost.speeds:
        rows += _speed_rows(speed)
    rows += [EdgeRow(f"{one.engine}, {one.format}", "-", f"{one.kind}: {one.message}") for one in cost.not_measured]
    return [*rows, _machine_row(cost.machine)]


def _file_row(size: "FileSize") -> EdgeRow:
    note: str = size.origin
    if size.fallback_tensors:
        note += (
            f"; rows no multiple of 256: {size.fallback_tensors:.0%} of the tensors, {size.fallback_parameters:.0%} of "
            "the parameters fall back to larger types"
        )
    return EdgeRow(f"{size.container} file, {size.format}", f"{size.bytes / 1e6:,.1f} MB", note)


def _speed_rows(speed: "Speed") -> list[EdgeRow]:
    label = f"{speed.engine}, {speed.format}"
    threads = "1 thread" if speed.threads == 1 else f"{speed.threads} threads"
    return [
        EdgeRow(
            f"{label}: prefill",
            f"{speed.prefill_ms.median:,.1f} ms",
            f"{speed.prompt_tokens} tokens, {speed.prefill_ms_per_token:,.2f} ms each; {_spread(speed.prefill_ms)}, "
            f"{threads}",
        ),
        EdgeRow(
            f"{label}: decode",
            f"{speed.decode_ms.median:,.2f} ms/token",
            f"{speed.new_tokens} tokens; {_spread(speed.decode_ms)}, {threads}",
        ),
        EdgeRow(
            f"{label}: peak memory",
            f"{speed.peak_memory_mb:,.0f} MB",
            f"of its own process; {speed.engine_memory_mb:,.0f} MB before the model was there",
        ),
    ]


def _spread(spread: "Spread") -> str:
    quartiles = f"quartiles {spread.lower_quartile:,.2f} to {spread.upper_quartile:,.2f}"
    return f"{quartiles} in {spread.repeats} repeats"


def _machine_row(machine: "Machine") -> EdgeRow:
    instructions = " ".join(machine.instructions)
    busy = machine.load_average is not None and machine.load_average > _QUIET
    load = f"; load average {machine.load_average} before: if that went on, times are upper bounds" if busy else ""
    return EdgeRow(
        "machine",
        f"{machine.processor}, {machine.cores} cores",
        f"{instructions}; {machine.memory_gb} GB; {machine.system}; torch {machine.torch}, transformers "
        f"{machine.transformers}, xllamacpp {machine.xllamacpp}{load}",
    )
