"""How quick memory is as it grows: retrieval, insertion, opening, rebuilding, from 1,000 to 100,000 designs.

    python -m benchmarks.memory_speed            # 1k, 10k, 100k
    python -m benchmarks.memory_speed --quick    # 1k and 10k

What is put in: `benchmarks.past_searches`. Each design has one or two lessons, 500 designs have one prompt template.
One store grows from size to size. Retrieval is what a search asks for before a prompt: the 3 nearest designs and the 3
nearest lessons, each with 100 questions that the store has not seen; without a filter, as a search filters (source and
corpus), and by fidelity, by a range of parameters, failed designs alone, one run alone. Recall is the share of what
was found that is as near as exact search over all vectors finds, for both.

Insertion is in batches of 20 runs of 50 designs, records and vectors; `vectors` is the share of the second alone.
`single` is what one trial takes at its end, as a search puts it in; `after` the retrieval right after it. Opening is
that of a fresh process, five times, with the records and their agreement checked; its imports are stated apart.
`second` is the opening of another process while this one owns the store. Rebuilding is from the records alone.

`holds`: at the largest size a search's retrieval of designs, and that of lessons, has a median of at most 20 ms, at
least 500 designs a second go in, and opening takes at most a second.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.growing import new_figure, save_figure
from benchmarks.memory_filled import OWN, RUNS, Filled, Known, distances_of_texts, filters, questions
from benchmarks.outcome import RESULTS, finish
from benchmarks.past_searches import TRIALS, home_of, past_run
from graph.folder import Home
from memory.embeddings import embed_architecture
from memory.rebuild import index_trials, open_vectors, rebuild_vectors
from memory.records import Records
from memory.retrieval import nearest_designs, related_lessons

NAME = "memory_speed"
SIZES = (1_000, 10_000, 100_000)
K = 3
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


def retrieval(filled: Filled) -> dict[str, Any]:
    """Times and recall of designs and of lessons, by filter."""
    asked, found = questions(QUESTIONS), dict[str, Any]()
    own = [number for number in range(filled.size // TRIALS) if is_own(number)]
    for name, where in filters(past_run(own[len(own) // 2]).run.id).items():
        allowed = filled.known.allowed(where)
        # Lessons say where they come from and nothing of their designs.
        on_lessons = where.keys() <= {"source", "corpus", "run_id"}
        words = [text for _, _, text in asked]
        texts = distances_of_texts(filled.known, words, K, allowed) if on_lessons else [np.empty(0)] * len(words)
        seconds: dict[str, list[float]] = {"designs": [], "lessons": []}
        hits, most = {"designs": 0, "lessons": 0}, {"designs": 0, "lessons": 0}
        for (design, source, text), exact_texts in zip(asked, texts, strict=True):
            near, took = timed(partial(nearest_designs, filled.store, design, source, K, where))
            seconds["designs"].append(took)
            if on_lessons:
                lessons, took = timed(partial(related_lessons, filled.store, text, K, where))
                seconds["lessons"].append(took)
                hits["lessons"] += sum(one.distance <= exact_texts[-1] + 1e-4 for one in lessons)
                most["lessons"] += len(exact_texts)
            exact = filled.known.nearest(embed_architecture(design, source), K, allowed)
            hits["designs"] += sum(one.distance <= exact[-1] + 1e-3 for one in near)
            most["designs"] += len(exact)
        found[name] = {"fit": int(allowed.sum())}
        for kind in ("designs", "lessons") if on_lessons else ("designs",):
            found[name][kind] = quantiles(seconds[kind]) | {"recall": round(hits[kind] / max(1, most[kind]), 4)}
    return found


def is_own(number: int) -> bool:
    """Whether a run has the source and corpus of the search that asks."""
    return home_of(number) == (OWN["source"], OWN["corpus"])


def singles(filled: Filled) -> dict[str, Any]:
    """One trial after the other put in as a search does, and the first retrieval after each."""
    number = filled.size // TRIALS
    past = past_run(number)
    filled.known.add(past)
    filled.records.create_run(past.run)
    added, after = list[float](), list[float]()
    for trial, (design, source, _) in zip(past.trials, questions(TRIALS), strict=True):
        (place,) = filled.records.add_finished_trials(past.run.id, [trial])
        added.append(timed(partial(index_trials, filled.records, filled.store, past.run.id, [place]))[1])
        after.append(timed(partial(nearest_designs, filled.store, design, source, K, OWN))[1])
    return {"single": quantiles(added), "after": quantiles(after)}


def openings(home: Path) -> dict[str, Any]:
    """Of a fresh process: its imports, and the opening of records and vectors, medians."""
    told = [
        json.loads(
            subprocess.run(
                [sys.executable, "-m", "benchmarks.memory_speed", "--open", str(home)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for _ in range(OPENINGS)
    ]
    return {name: round(statistics.median(one[name] for one in told), 3) for name in told[0]}


def open_once(home: Home) -> dict[str, float]:
    """What a fresh process takes, in seconds."""
    started = time.perf_counter()
    from sklearn.feature_extraction.text import HashingVectorizer  # noqa: F401

    imported = time.perf_counter()
    with Records.open(home.records) as records:
        opened = time.perf_counter()
        with open_vectors(home.vectors, home.path / "private", records) as store:
            ready = time.perf_counter()
            design, source, text = questions(1)[0]
            asked = time.perf_counter()
            nearest_designs(store, design, source, K, OWN)
            related_lessons(store, text, K, OWN)
            answered = time.perf_counter()
    return {
        "import_seconds": imported - started,
        "records_seconds": opened - imported,
        "vectors_seconds": ready - opened,
        "seconds": ready - imported,
        "first_retrieval_seconds": answered - asked,
    }


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
                    added = filled.size - before
                    row: dict[str, Any] = {
                        "designs_per_second": round(added / sum(spent.values()), 1),
                        "vectors_per_second": round(added / spent["vectors"], 1),
                    }
                    row |= singles(filled)
                    bars.advance(bar)
                    row["retrieval"] = retrieval(filled)
                    row["second"] = openings(home.path)
                row["opening"] = openings(home.path)
                row["disk_mb"] = {
                    "records": size_mb(home.path) - size_mb(home.vectors),
                    "vectors": size_mb(home.vectors),
                }
                with open_vectors(home.vectors, home.path / "private", records) as store:
                    row["rebuild_seconds"] = round(timed(partial(rebuild_vectors, records, store))[1], 2)
                    row["counts"] = store.counts()
            rows[str(size)] = row
    return rows


def holds(rows: Mapping[str, Any]) -> bool:
    """Whether the marks are met at the largest size."""
    row = rows[max(rows, key=int)]
    own = row["retrieval"]["source and corpus"]
    return bool(
        all(own[kind]["median_ms"] <= RETRIEVAL_MS for kind in ("designs", "lessons"))
        and row["designs_per_second"] >= INSERTIONS
        and row["opening"]["seconds"] <= OPENING_SECONDS
    )


def draw(rows: Mapping[str, Any], path: Path) -> None:
    """Growth of retrieval, insertion and opening over the number of designs."""
    figure, (times, speeds, openings_) = new_figure(14, 4.2, columns=3)
    sizes = [int(size) for size in rows]
    for place, name in enumerate(next(iter(rows.values()))["retrieval"]):
        for kind, line in (("designs", "-"), ("lessons", "--")):
            if kind not in next(iter(rows.values()))["retrieval"][name]:
                continue
            values = [row["retrieval"][name][kind]["median_ms"] for row in rows.values()]
            times.plot(sizes, values, line, marker="o", color=f"C{place}", label=f"{kind}, {name}")
    times.axhline(RETRIEVAL_MS, color="black", linestyle=":")
    times.set_ylabel("median retrieval, ms")
    for name, label in (("designs_per_second", "records and vectors"), ("vectors_per_second", "vectors alone")):
        speeds.plot(sizes, [row[name] for row in rows.values()], marker="o", label=label)
    speeds.axhline(INSERTIONS, color="black", linestyle=":", label="mark")
    speeds.set_ylabel("designs put in per second")
    for name, label in (("opening", "opening"), ("second", "beside another process")):
        openings_.plot(sizes, [row[name]["seconds"] for row in rows.values()], marker="o", label=label)
    openings_.axhline(OPENING_SECONDS, color="black", linestyle=":", label="mark")
    openings_.set_ylabel("opening in a fresh process, s, without imports")
    for axes in (times, speeds, openings_):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("designs")
        axes.legend(fontsize="x-small")
    save_figure(figure, [times, speeds, openings_], path)


def show(rows: Mapping[str, Any]) -> None:
    """The table for people, on stderr."""
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("designs")
    for name in (
        "retrieval, ms",
        "filtered, ms",
        "put in / s",
        "vectors / s",
        "single, ms",
        "opening, s",
        "second, s",
        "rebuild, s",
        "MB",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for size, row in rows.items():
        asked = row["retrieval"]
        medians = [
            " + ".join(f"{asked[name][kind]['median_ms']:.1f}" for kind in ("designs", "lessons"))
            for name in ("none", "source and corpus")
        ]
        table.add_row(
            f"{int(size):,}",
            *medians,
            f"{row['designs_per_second']:,.0f}",
            f"{row['vectors_per_second']:,.0f}",
            f"{row['single']['median_ms']:.1f}",
            f"{row['opening']['seconds']:.2f}",
            f"{row['second']['seconds']:.2f}",
            f"{row['rebuild_seconds']:.1f}",
            f"{sum(row['disk_mb'].values()):,.0f}",
        )
    Console(stderr=True).print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill, measure, draw, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 and 10,000 designs")
    parser.add_argument("--sizes", type=int, nargs="+", help=f"multiples of {TRIALS}, ascending; default 1k, 10k, 100k")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.open is not None:
        print(json.dumps(open_once(Home(options.open))))
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
