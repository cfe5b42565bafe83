"""What the benchmarks of pruning-aware pretraining share: options and sizes, cached runs, the progress bars.

Each run has a folder of its own in the cache: benchmarks/NAME/KEY below PENJING_CACHE or the user's cache folder. KEY
is made from the request, the version of the numerics and the compute. A finished run is read from there, and one that
was interrupted goes on from its last checkpoint, so nothing is paid for twice.
"""

import argparse
import gc
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from benchmarks.outcome import shared_file
from tools.places import cache_folder
from tools.pretrain import LOG_FILE, MODEL_FOLDER, PretrainRequest, PretrainResult, pretrain
from tools.pretraining.looks import grown_losses
from tools.pruning.drop_event import DropEvent
from tools.requests import NUMERICS_VERSION, Progress
from tools.settings import DataSettings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOG_WIDTH = 200
SOURCE = "smollm2-135m"
CORPUS = "modern_mix/modern_mix.jsonl.xz"


@dataclass(frozen=True)
class Scale:
    """How much is trained: tokens in all, blocks of an optimiser step and of a backward pass, tokens of a block."""

    tokens: int
    batch: int
    micro_batch: int
    block: int
    validation_tokens: int = 8192

    @property
    def step_tokens(self) -> int:
        """Tokens of one optimiser step."""
        return self.batch * self.block

    @property
    def data(self) -> DataSettings:
        """The corpus settings of a run."""
        return DataSettings(block_length=self.block, validation_tokens=self.validation_tokens)


Device = Literal["cpu", "cuda"]
Scales = Mapping[tuple[Device, bool], Scale]
"""The default scale by device and by `--quick`."""


@dataclass(frozen=True)
class Job:
    """What one call of a benchmark is to do; `folder` keeps its runs, `cache` sources and corpora."""

    name: str
    quick: bool
    source: str
    corpus: str
    scale: Scale
    cache: Path

    @property
    def folder(self) -> Path:
        return self.cache / "benchmarks" / self.name

    def facts(self) -> dict[str, Any]:
        """What every report states."""
        scale = self.scale
        return {
            "quick": self.quick,
            "source": self.source,
            "data": Path(self.corpus).name,
            "block_length": scale.block,
            "batch_size": scale.batch,
            "micro_batch_size": scale.micro_batch,
        }


@dataclass(frozen=True)
class Grown:
    """One finished run: its result, its events in their order, its folder, and its loss on each held-out block."""

    result: PretrainResult
    events: tuple[DropEvent, ...]
    folder: Path
    block_losses: tuple[float, ...] | None = None


def options(description: str | None, cached: bool = True) -> argparse.ArgumentParser:
    """The options that all have; `cached` where runs are kept."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="within ten minutes on two cores")
    parser.add_argument("--source", default=SOURCE, help=f"model to start from, default {SOURCE}")
    parser.add_argument("--corpus", help="text to train and measure on, default the shared modern_mix")
    parser.add_argument("--tokens", type=_positive, help="training tokens; default by device")
    parser.add_argument("--batch", type=_positive, help="blocks of an optimiser step; default by device")
    parser.add_argument("--micro-batch", type=_positive, help="blocks of a backward pass; default by device")
    parser.add_argument("--block", type=_positive, help="tokens of a block; default by device")
    if cached:
        parser.add_argument(
            "--fresh", action="store_true", help="forget the runs of earlier calls and pay for all anew"
        )
    return parser


def job_of(name: str, arguments: argparse.Namespace, scales: Scales) -> Job:
    """The job that `arguments` ask for; earlier runs are removed where they say `fresh`.

    Raises InputError where no corpus is named and the shared one is absent.
    """
    import torch

    default = scales["cuda" if torch.cuda.is_available() else "cpu", arguments.quick]
    batch = arguments.batch or default.batch
    scale = Scale(
        tokens=arguments.tokens or default.tokens,
        batch=batch,
        micro_batch=min(arguments.micro_batch or default.micro_batch, batch),
        block=arguments.block or default.block,
        validation_tokens=default.validation_tokens,
    )
    cache = cache_folder()
    corpus = arguments.corpus or str(shared_file(CORPUS).resolve())
    job = Job(name=name, quick=arguments.quick, source=arguments.source, corpus=corpus, scale=scale, cache=cache)
    if getattr(arguments, "fresh", False):
        shutil.rmtree(job.folder, ignore_errors=True)
    return job


def planned(job: Job, **settings: Any) -> PretrainRequest:
    """A request of `job` with these settings; its output folder follows from all that decides the result."""
    settings = {"tokens": job.scale.tokens, "data": job.scale.data, **settings}
    values = {"source": job.source, "corpus": job.corpus, "cache": job.cache, "output": job.folder, **settings}
    request = PretrainRequest.model_validate(values)
    return request.model_copy(update={"output": job.folder / key_of(request)})


def key_of(request: PretrainRequest) -> str:
    """16 hexadecimal digits, equal where the same numbers come out; where folders are plays no part."""
    from tools.pretraining.compute import choose_compute

    compute = choose_compute(request.recipe.precision)
    asked = request.model_dump(mode="json", exclude={"output", "cache"})
    parts = [NUMERICS_VERSION, compute.device, compute.precision, asked]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def grow(request: PretrainRequest, bars: "Bars", label: str, keep_model: bool = False) -> Grown:
    """Run `request`, go on with it, or read what an earlier call left; `keep_model` leaves the weights there.

    A loss that is not finite is a result; any other failure raises RuntimeError.
    """
    with bars.run(label) as show:
        result = pretrain(request, show)
    _free_memory()
    if result.failure is not None and result.failure.kind != "not_finite":
        raise RuntimeError(f"{label}: {result.failure.message}")
    if not keep_model:
        # Half a gigabyte for each run, and only figures are asked for.
        shutil.rmtree(request.output / MODEL_FOLDER, ignore_errors=True)
    log = request.output / LOG_FILE
    blocks = grown_losses(log)
    return Grown(result, events_of(log), request.output, None if blocks is None else tuple(blocks))


def events_of(log: Path) -> tuple[DropEvent, ...]:
    """The drop events in the log of a run."""
    with log.open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    return tuple(DropEvent.model_validate(line) for line in lines if line.get("event") == "drop")


class Bars:
    """Two bars on stderr: the parts of a benchmark, and the steps of the part that is under way."""

    def __init__(self, parts: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Display

        text = TextColumn("{task.description}")
        columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._console = Console(stderr=True)
        if not self._console.is_terminal:
            # A log has no edge: the columns of a table are worth more than its width.
            self._console.width = _LOG_WIDTH
        self._display = Display(*columns, console=self._console)
        self._whole = self._display.add_task("all", total=parts)
        self._part = self._display.add_task("starting", total=None)
        self._label, self._phase = "", ""

    def __enter__(self) -> Self:
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._display.stop()

    @contextmanager
    def run(self, label: str) -> Iterator[Callable[[Progress], None]]:
        """Context of one part; gives the function that takes its progress in."""
        self._label, self._phase = label, ""
        self._display.reset(self._part, description=label, total=None)
        yield self.show
        self._display.advance(self._whole)

    def show(self, progress: Progress) -> None:
        """A step of the part under way is done."""
        loss = "" if progress.loss is None else f", loss {progress.loss:.3f}"
        description = f"{self._label}: {progress.phase}{loss}"
        if progress.phase != self._phase:
            # A new phase has its own clock.
            self._display.reset(self._part, total=progress.total)
            self._phase = progress.phase
        self._display.update(self._part, completed=progress.done, total=progress.total, description=description)

    def table(self, header: list[str], rows: list[list[str]]) -> None:
        """A table for people, on stderr, as stdout is for the JSON line."""
        from rich.box import SIMPLE
        from rich.table import Table

        table = Table(box=SIMPLE, pad_edge=False)
        for number, name in enumerate(header):
            table.add_column(name, justify="left" if number == 0 else "right")
        for row in rows:
            table.add_row(*row)
        self._console.print(table)


def new_figure(width: float, height: float, columns: int = 1) -> "tuple[Figure, list[Axes]]":
    """A matplotlib figure that needs no window, and its row of axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def save_figure(figure: "Figure", axes: "Sequence[Axes]", path: Path) -> None:
    """Write `figure` with a light grid as PNG."""
    for panel in axes:
        panel.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _positive(text: str) -> int:
    value = int(text.replace("_", "").replace(",", ""))
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _free_memory() -> None:
    """A run leaves models in reference cycles; the next one must not stand beside them."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
