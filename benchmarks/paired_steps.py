"""Pruning-aware and dense steps in turn on one model, and dense steps as it shrinks: what `pruning_overhead` times."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tools.pretrain import PretrainRequest
from tools.requests import Progress
from tools.settings import Recipe, SpaceSettings, WidthSettings

if TYPE_CHECKING:
    from tools.architecture import Architecture
    from tools.pretraining.blocks import Blocks
    from tools.pruning.drop_policy import DropPolicy
    from tools.sources import Source

KEPT = 0.85
EVENTS = 250
N = 9
SHAPES = (1.0, 0.85, 0.70, 0.55)
WARMUP_PAIRS = 2

Mode = Literal["an event after every step", "N = 9, all layers alike"]
EVERY_STEP: Mode = "an event after every step"
SPARSE: Mode = "N = 9, all layers alike"


@dataclass(frozen=True)
class Pair:
    """Seconds of a pruning-aware step and a dense step at one shape, and of the event after them, 0 without one."""

    aware: float
    dense: float
    event: float

    @property
    def ratio(self) -> float:
        return (self.aware + self.event) / self.dense


def quartiles(values: Sequence[float]) -> list[float]:
    """The three quartiles; a single value is all three."""
    return [values[0]] * 3 if len(values) == 1 else statistics.quantiles(values, n=4, method="inclusive")


class Bench:
    """A fresh model of the source on the device, with all that grows it."""

    def __init__(self, source: "Source", blocks: "Blocks", recipe: Recipe, policy: "DropPolicy", space: SpaceSettings):
        from tools.pretraining.compute import choose_compute
        from tools.pretraining.growth import Growth
        from tools.pretraining.trainer import Trainer
        from tools.pruning.input_statistics import InputStatistics
        from tools.pruning.pruner import Pruner
        from tools.pruning.ranking import make_ranking
        from tools.pruning.recording import Recording
        from tools.sources import load_model

        model, compute = load_model(source.path), choose_compute(recipe.precision)
        compute.place(model)
        self._on_cuda = compute.device == "cuda"
        self.trainer: Trainer = Trainer(model, blocks, recipe, compute, seed=0)
        moments = InputStatistics(model, recipe.moment_decay, recipe.moment_tokens)
        ranking = make_ranking(recipe, model, moments, 0)
        pruner = Pruner(model, source.architecture, recipe, ranking, moments, [self.trainer.optimizer])
        recording = Recording(ranking, moments)
        self.growth: Growth = Growth(self.trainer, pruner, policy, recording, source.architecture, space)

    def see(self, tokens: int) -> None:
        """Let statistics read so many tokens, without training on them."""
        self.growth.calibrate(-(-tokens // self.trainer.tokens_per_step), _unreported)

    def aware_step(self) -> float:
        """Seconds of one step with statistics and saliency."""
        return self._seconds(lambda: self.growth.train(1, _unreported))

    def dense_step(self) -> float:
        """Seconds of one step without."""
        return self._seconds(lambda: self.trainer.train(1, "dense", _unreported))

    def event(self) -> float:
        """Seconds of the event that is due now; 0 where none is."""
        before = len(self.growth.events)
        seconds = self._seconds(self.growth.begin)
        return seconds if len(self.growth.events) > before else 0.0

    def pair(self) -> Pair:
        """One pair and its event. The steps of the training count both, so events must be due at even ones."""
        aware, dense = self.aware_step(), self.dense_step()
        return Pair(aware=aware, dense=dense, event=self.event())

    def _seconds(self, work: Callable[[], None]) -> float:
        self._synchronise()
        started = time.perf_counter()
        work()
        self._synchronise()
        return time.perf_counter() - started

    def _synchronise(self) -> None:
        if self._on_cuda:
            import torch

            torch.cuda.synchronize()


def bench_for(source: "Source", blocks: "Blocks", recipe: Recipe, mode: Mode, known: bool = False) -> Bench:
    """A model whose events are due after every pair, or after every ninth as the paper has it.

    Where `known`, its statistics have seen as many tokens as it takes until some of the steps do.
    """
    bench = _bench_for(source, blocks, recipe, mode)
    if known:
        from tools.pruning.sampling import ENOUGH_PER_INPUT

        bench.see(ENOUGH_PER_INPUT * max(layer.intermediate_size for layer in source.architecture.layers))
    return bench


def _bench_for(source: "Source", blocks: "Blocks", recipe: Recipe, mode: Mode) -> Bench:
    from tools.pruning.drop_policy import DropPolicy, EveryNSteps, TowardsSize

    policy: DropPolicy
    if mode == SPARSE:
        space = _space(source.architecture, KEPT, WidthSettings(uniform=True, ffn_multiple=1, hidden_multiple=1))
        policy = EveryNSteps(2 * N, space, first=2)
    else:
        space = _space(source.architecture, KEPT, PretrainRequest.model_fields["widths"].default)
        policy = TowardsSize(source.architecture, space, EVENTS, 2 * EVENTS, first=2)
    return Bench(source, blocks, recipe, policy, space)


def pairs_of(bench: Bench, count: int, show: Callable[[Progress], None]) -> list[Pair]:
    """So many pairs after the warm-up."""
    pairs = []
    for done in range(1, WARMUP_PAIRS + count + 1):
        pairs.append(bench.pair())
        show(Progress(phase="pairs of steps", done=done, total=WARMUP_PAIRS + count))
    return pairs[WARMUP_PAIRS:]


def speeds_of(
    source: "Source",
    blocks: "Blocks",
    recipe: Recipe,
    widths: WidthSettings,
    steps: int,
    show: Callable[[Progress], None],
) -> Iterator[dict[str, Any]]:
    """Tokens per second of dense steps at each shape; the step that records for the cut is the shape's warm-up."""
    from tools.pruning.drop_policy import TowardsSize

    cuts = len(SHAPES) - 1
    space = _space(source.architecture, SHAPES[-1], widths)
    policy = TowardsSize(source.architecture, space, cuts, cuts * (steps + 1), first=steps + 1)
    bench = Bench(source, blocks, recipe, policy, space)
    for shape in range(len(SHAPES)):
        bench.aware_step()
        seconds = [bench.dense_step() for _ in range(steps)]
        show(Progress(phase="shapes", done=shape + 1, total=len(SHAPES)))
        step_tokens = recipe.batch_size * int(blocks.shape[1])
        yield {
            "parameters": bench.growth.design.parameters,
            "shape": bench.growth.design.describe(most_runs=3),
            "tokens_per_second": round(step_tokens / statistics.median(seconds), 1),
            "seconds": [round(value, 4) for value in quartiles(seconds)],
        }
        bench.event()


def _space(source: "Architecture", kept: float, widths: WidthSettings) -> SpaceSettings:
    return SpaceSettings(max_parameters=round(kept * source.parameters), **widths.model_dump())


def _unreported(phase: str, done: int, total: int, loss: float) -> None:
    """Steps are timed, not shown."""
