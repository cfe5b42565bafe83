"""How quick memory is as it grows: retrieval, insertion, opening, rebuilding, from 1,000 to 100,000 designs.

    python -m benchmarks.memory_speed            # 1k, 10k, 100k
    python -m benchmarks.memory_speed --quick    # 1k and 10k

What is put in: `benchmarks.past_searches`. Each design has one or two lessons, 500 designs have one prompt template.
One store grows from size to size. Retrieval is what a search asks for before each of its prompts
(`memory.recall.recollect`): designs near the current one, failed ones, good ones and lessons, 3 of each. `turn` is all
of that together, `turn_parts` the same in parts, with other questions; each of the 100 is new to the store and to the
search, whose first turn, which learns of past runs, stands apart. `look_ups` is the vector store alone, the 12
nearest designs and lessons that a turn begins with, by condition; recall is the share of what was found that is as near
as exact search over all vectors finds.

Insertion is in batches of 20 runs of 50 designs, records and vectors. `single` is what one trial takes at its end, as a
search puts it in; `after` the look-up right after it. Opening is that of a fresh process, five times, with the records
and their agreement checked; its imports are stated apart, and so is its first write, which loads what opening a folder
that was closed in order leaves alone. `second` is the opening of another process while this one owns the store.
`mended` is the opening where all is in doubt, as a machine that went down leaves it: all is put back from the tables.
Rebuilding is from the records alone.

`holds`: at the largest size a turn's retrieval, which is what a search waits for, has a median of at most 20 ms, at
least 500 designs a second go in, and opening takes at most a second. Insertion in batches is what filling a store
takes: a search puts in one trial at a time.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.growing import new_figure, save_figure
from benchmarks.memory_filled import (
    BUDGET,
    RUNS,
    SOURCE,
    Filled,
    Known,
    distances_of_texts,
    filters,
    own_run,
    questions,
)
from benchmarks.outcome import RESULTS, finish
from benchmarks.past_searches import SOURCES, TRIALS, past_run
from graph.folder import Home
from memory.embeddings import embed_architecture
from memory.rebuild import index_trials, open_vectors, rebuild_vectors
from memory.recall import Here, designs_near, diverse_best, fitting_lessons, recollect
from memory.records import Records
from memory.shared_folder import SharedFolder
from memory.stored_library import StoredLibrary
from memory.use_mark import EVERYTHING
from memory.vectors import VectorStore
from tools.architecture import Architecture
from tools.settings import GoalSettings

NAME = "memory_speed"
SIZES = (1_000, 10_000, 100_000)
K = 3
LOOKED_UP = 12
REFERENCE = SOURCES[SOURCE]
QUESTIONS = 100
OPENINGS = 5
SINGLES = 50
RETRIEVAL_MS, INSERTIONS, OPENING_SECONDS = 20.0, 500.0, 1.0


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile in milliseconds."""
    return {
        "median_ms": round(1000 * statistics.median(seconds), 2),
        "p95_ms": round(1000 * float(np.quantile(seconds, 0.95)), 2),
    }


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` gives, and its seconds."""
    started = time.perf_counter()
    found = work()
    return found, time.perf_counter() - started


def library_of(records: Records, store: VectorStore, run_id: str) -> StoredLibrary:
    """The past as the search `run_id` sees it."""
    return StoredLibrary(records, store, run_id, GoalSettings(), REFERENCE, BUDGET)


def here(library: StoredLibrary, design: Architecture, text: str) -> Here[Architecture]:
    """Where a search stands."""
    return Here("none", design.hash, design, library.size_of(design), text)


def turns(filled: Filled) -> dict[str, Any]:
    """Times of a turn's retrieval, whole and in parts."""
    library = library_of(filled.records, filled.store, own_run(filled.size))
    (first, *others), parts = questions(QUESTIONS + 1), dict[str, list[float]]()
    _, learning = timed(partial(recollect, library, here(library, *first), K, library.scope))
    whole = [timed(partial(recollect, library, here(library, *one), K, library.scope))[1] for one in others]
    for design, text in questions(QUESTIONS, first=1):
        scope = replace(library.scope, unlike=design.hash)
        work: dict[str, Callable[[], Any]] = {
            "near and failed designs": partial(designs_near, library, design, K, scope),
            "good designs": partial(diverse_best, library, K),
            "lessons": partial(fitting_lessons, library, text, library.size_of(design), K, library.scope),
        }
        for name, call in work.items():
            parts.setdefault(name, []).append(timed(call)[1])
    return {
        "first_turn_ms": round(1000 * learning, 1),
        "turn": quantiles(whole),
        "turn_parts": {name: quantiles(seconds) for name, seconds in parts.items()},
    }


def look_ups(filled: Filled) -> dict[str, Any]:
    """Times and recall of the vector store, designs and lessons, by condition."""
    asked, found = questions(QUESTIONS, first=2), dict[str, Any]()
    for name, where in filters(own_run(filled.size)).items():
        of_designs, of_lessons = where.of_designs(), where.of_lessons()
        allowed, ids = filled.known.allowed(of_designs), filled.known.allowed(of_lessons)
        exact = [filled.known.nearest(embed_architecture(design, REFERENCE), LOOKED_UP, allowed) for design, _ in asked]
        kinds = {"designs": (exact, 1e-3, [partial(filled.store.nearest, one, REFERENCE) for one, _ in asked])}
        if name in ("as a search asks", "no condition", "one run"):
            # Lessons say where they come from and nothing of their designs.
            texts = distances_of_texts(filled.known, [text for _, text in asked], LOOKED_UP, ids)
            kinds["lessons"] = (texts, 1e-4, [partial(filled.store.lessons, text) for _, text in asked])
        found[name] = {"fit": int(allowed.sum())}
        for kind, (nearest, margin, calls) in kinds.items():
            seconds, hits = list[float](), 0
            for call, distances in zip(calls, nearest, strict=True):
                near, took = timed(partial(call, LOOKED_UP, of_designs if kind == "designs" else of_lessons))
                seconds.append(took)
                hits += sum(one.distance <= distances[-1] + margin for one in near)
            most = sum(len(distances) for distances in nearest)
            found[name][kind] = quantiles(seconds) | {"recall": round(hits / max(1, most), 4)}
    return found


def singles(filled: Filled) -> dict[str, Any]:
    """One trial after the other put in as a search does, and the first look-up after each."""
    past, where = past_run(filled.size // TRIALS), filters("")["as a search asks"].of_designs()
    filled.known.add(past)
    filled.records.create_run(past.run)
    added, after = list[float](), list[float]()
    for trial, (design, _) in zip(past.trials, questions(TRIALS, first=3), strict=True):
        (place,) = filled.records.add_finished_trials(past.run.id, [trial])
        added.append(timed(partial(index_trials, filled.records, filled.store, past.run.id, [place.number]))[1])
        after.append(timed(partial(filled.store.nearest, design, REFERENCE, LOOKED_UP, where))[1])
    return {"single": quantiles(added), "after": quantiles(after)}


def openings(home: Path, run_id: str) -> dict[str, Any]:
    """Of a fresh process: its imports, and the opening of records and vectors, medians."""
    told = [
        json.loads(
            subprocess.run(
                [sys.executable, "-m", "benchmarks.memory_speed", "--open", str(home), run_id],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for _ in range(OPENINGS)
    ]
    return {name: round(statistics.median(one[name] for one in told), 3) for name in told[0]}


def open_once(home: Home, run_id: str) -> dict[str, float]:
    """What a fresh process takes, in seconds."""
    started = time.perf_counter()
    # What opening and the first question would import otherwise, each where it is used.
    import chromadb.api.rust  # noqa: F401
    from sklearn.feature_extraction.text import HashingVectorizer  # noqa: F401

    imported = time.perf_counter()
    with Records.open(home.records) as records:
        opened = time.perf_counter()
        with open_vectors(home.vectors, home.path / "private", records) as store:
            ready = time.perf_counter()
            library = library_of(records, store, run_id)
            place = here(library, *questions(1)[0])
            asked = time.perf_counter()
            recollect(library, place, K, library.scope)
            answered = time.perf_counter()
            # What is there already is put in once more.
            index_trials(records, store, run_id, [0])
            written = time.perf_counter()
    return {
        "import_seconds": imported - started,
        "records_seconds": opened - imported,
        "vectors_seconds": ready - opened,
        "seconds": ready - imported,
        "first_turn_seconds": answered - asked,
        "first_write_seconds": written - answered,
    }


def leave_in_doubt(home: Home) -> None:
    """As the end of the machine leaves the vectors."""
    mark = SharedFolder(home.vectors).mark
    mark.write({EVERYTHING})
    mark.close()


def size_mb(folder: Path) -> float:
    """All files below a folder, in 10^6 bytes."""
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 1)


def measure(home: Home, sizes: Sequence[int]) -> dict[str, Any]:
    """All figures of each size, in one home that grows."""
    rows: dict[str, Any] = {}
    known = Known()
    with Progress(console=Console(stderr=True)) as bars:
        for size in sizes:
            bar = bars.add_task(f"{size:,} designs", total=size // TRIALS)
            with Records.open(home.records) as records:
                with open_vectors(home.vectors, home.path / "private", records) as store:
                    filled = Filled(home, records, store, known)
                    bars.update(bar, completed=filled.size // TRIALS)
                    before = filled.size
                    spent = filled.grow(size - TRIALS, lambda bar=bar: bars.advance(bar, RUNS))
                    row: dict[str, Any] = {"designs_per_second": round((filled.size - before) / spent, 1)}
                    row |= singles(filled)
                    bars.advance(bar)
                    row |= turns(filled) | {"look_ups": look_ups(filled)}
                    row["second"] = openings(home.path, own_run(size))
                row["opening"] = openings(home.path, own_run(size))
                row["disk_mb"] = {
                    "records": round(size_mb(home.path) - size_mb(home.vectors), 1),
                    "vectors": size_mb(home.vectors),
                }
                leave_in_doubt(home)
                store, row["mended_seconds"] = timed(
                    partial(open_vectors, home.vectors, home.path / "private", records)
                )
                with store:
                    row["rebuild_seconds"] = round(timed(partial(rebuild_vectors, records, store))[1], 2)
                    row["counts"] = store.counts()
            rows[str(size)] = row
    return rows


def holds(rows: Mapping[str, Any]) -> bool:
    """Whether the marks are met at the largest size."""
    row = rows[max(rows, key=int)]
    return bool(
        row["turn"]["median_ms"] <= RETRIEVAL_MS
        and row["designs_per_second"] >= INSERTIONS
        and row["opening"]["seconds"] <= OPENING_SECONDS
    )


def draw(rows: Mapping[str, Any], path: Path) -> None:
    """Growth of retrieval, look-ups, insertion and opening over the number of designs."""
    figure, panels = new_figure(16, 4.8, columns=4)
    sizes, kept = [int(size) for size in rows], list(rows.values())
    curves: list[tuple[str, float | None, dict[str, list[float]]]] = [
        (
            "a turn's retrieval, median, ms",
            RETRIEVAL_MS,
            {"all of it": [row["turn"]["median_ms"] for row in kept]}
            | {name: [row["turn_parts"][name]["median_ms"] for row in kept] for name in kept[0]["turn_parts"]},
        ),
        (
            "look-up in the vector store, median, ms",
            None,
            {
                f"{kind}, {name}": [row["look_ups"][name][kind]["median_ms"] for row in kept]
                for name, found in kept[0]["look_ups"].items()
                for kind in ("designs", "lessons")
                if kind in found
            },
        ),
        ("designs put in per second", INSERTIONS, {"records and vectors": [row["designs_per_second"] for row in kept]}),
        (
            "opening in a fresh process, s, without imports",
            OPENING_SECONDS,
            {"alone": [row["opening"]["seconds"] for row in kept]}
            | {"beside another process": [row["second"]["seconds"] for row in kept]},
        ),
    ]
    for axes, (title, mark, lines) in zip(panels, curves, strict=True):
        for name, values in lines.items():
            axes.plot(sizes, values, "--" if name.startswith("lessons,") else "-", marker="o", label=name)
        if mark is not None:
            axes.axhline(mark, color="black", linestyle=":", label="mark")
        axes.set_title(title, fontsize="small")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("designs")
        # Below the axes, where no line is.
        axes.legend(fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, -0.16))
    save_figure(figure, panels, path)


def show(rows: Mapping[str, Any]) -> None:
    """The table for people, on stderr."""
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("designs")
    for name in (
        "turn, ms",
        "look-ups, ms",
        "put in / s",
        "single, ms",
        "opening, s",
        "second, s",
        "mended, s",
        "rebuild, s",
        "MB",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for size, row in rows.items():
        asked = row["look_ups"]["as a search asks"]
        table.add_row(
            f"{int(size):,}",
            f"{row['turn']['median_ms']:.1f}",
            " + ".join(f"{asked[kind]['median_ms']:.1f}" for kind in ("designs", "lessons")),
            f"{row['designs_per_second']:,.0f}",
            f"{row['single']['median_ms']:.1f}",
            f"{row['opening']['seconds']:.2f}",
            f"{row['second']['seconds']:.2f}",
            f"{row['mended_seconds']:.1f}",
            f"{row['rebuild_seconds']:.1f}",
            f"{sum(row['disk_mb'].values()):,.0f}",
        )
    Console(stderr=True).print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill, measure, draw, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 and 10,000 designs")
    parser.add_argument("--sizes", type=int, nargs="+", help=f"multiples of {TRIALS}, ascending; default 1k, 10k, 100k")
    parser.add_argument("--open", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.open is not None:
        print(json.dumps(open_once(Home(Path(options.open[0])), options.open[1])))
        return
    sizes = options.sizes or (SIZES[:2] if options.quick else SIZES)
    with tempfile.TemporaryDirectory(prefix="penjing-memory-") as folder:
        home = Home(Path(folder))
        home.create()
        rows = measure(home, sizes)
    show(rows)
    draw(rows, RESULTS / f"{NAME}.png")
    finish(NAME, holds(rows), {"sizes": rows, "questions": QUESTIONS, "k": K})


if __name__ == "__main__":
    main()
