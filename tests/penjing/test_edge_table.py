"""The table of what a model costs: a row for each figure, with what it hangs on."""

from pathlib import Path

from penjing.edge_table import edge_rows
from tools.evaluation.edge_figures import Counts, EdgeCost, FileSize, Machine, NotMeasured, Speed, Spread

COUNTS = Counts(
    parameters=114_977_088,
    parameters_without_embeddings=90_000_000,
    padded_parameters=134_515_008,
    macs_per_token=115_400_000,
    context_length=128,
    kv_cache_bytes_per_token=23_040,
)
FALLEN = FileSize(
    container="gguf",
    format="q4_k_m",
    bytes=88_000_000,
    origin="predicted",
    fallback_tensors=0.7,
    fallback_parameters=0.98,
)
SPEED = Speed(
    engine="llama.cpp",
    format="q8_0",
    threads=1,
    prompt_tokens=100,
    new_tokens=32,
    prefill_ms=Spread.of([400.0, 410.0, 420.0]),
    decode_ms=Spread.of([10.0, 12.0, 14.0]),
    peak_memory_mb=310.4,
    engine_memory_mb=44.6,
)
MISSING = NotMeasured(engine="llama.cpp", format="f16", kind="crashed", message="ended with code -11: it said nothing")
MACHINE = Machine(
    processor="Some CPU",
    instructions=("avx2",),
    cores=2,
    memory_gb=25.3,
    system="Linux x86_64",
    load_average=1.5,
    torch="2.13.0",
    transformers="5.23.0",
    xllamacpp="2026.10",
)
COST = EdgeCost(
    model=Path("small"),
    machine=MACHINE,
    counts=COUNTS,
    file_sizes=(FileSize(container="hf", format="bfloat16", bytes=269_000_000, origin="found"), FALLEN),
    speeds=(SPEED,),
    not_measured=(MISSING,),
)


def test_every_figure_has_a_row() -> None:
    rows = {row.label: (row.value, row.note) for row in edge_rows(COST)}
    assert rows == {
        "parameters": ("114,977,088", "tied weights once; 134,515,008 in the directory, padded with zeros"),
        "without embeddings": ("90,000,000", "nor output head"),
        "MACs per token": ("115.4 M", "attending to 128 tokens"),
        "KV cache per token": ("23,040 bytes", "float16"),
        "hf file, bfloat16": ("269.0 MB", "found"),
        "gguf file, q4_k_m": (
            "88.0 MB",
            "predicted; rows no multiple of 256: 70% of the tensors, 98% of the parameters fall back to larger types",
        ),
        "llama.cpp, q8_0: prefill": (
            "410.0 ms",
            "100 tokens, 4.10 ms each; quartiles 405.00 to 415.00 in 3 repeats, 1 thread",
        ),
        "llama.cpp, q8_0: decode": ("12.00 ms/token", "32 tokens; quartiles 11.00 to 13.00 in 3 repeats, 1 thread"),
        "llama.cpp, q8_0: peak memory": ("310 MB", "of its own process; 45 MB before the model was there"),
        "llama.cpp, f16": ("-", "crashed: ended with code -11: it said nothing"),
        "machine": (
            "Some CPU, 2 cores",
            "avx2; 25.3 GB; Linux x86_64; torch 2.13.0, transformers 5.23.0, xllamacpp 2026.10; "
            "load average 1.5 before: if that went on, times are upper bounds",
        ),
    }


def test_nothing_is_said_of_what_is_as_usual() -> None:
    quiet = MACHINE.model_copy(update={"load_average": 0.1})
    whole = COUNTS.model_copy(update={"padded_parameters": COUNTS.parameters})
    fits = FALLEN.model_copy(update={"fallback_tensors": 0.0, "fallback_parameters": 0.0, "origin": "written"})
    cost = COST.model_copy(update={"machine": quiet, "counts": whole, "file_sizes": (fits,)})
    notes = {row.label: row.note for row in edge_rows(cost)}
    assert notes["parameters"] == "tied weights once" and notes["gguf file, q4_k_m"] == "written"
    assert "load" not in notes["machine"]
