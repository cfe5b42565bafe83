"""Ranking and input statistics of a model in training, recorded together: what the trainer calls on the way."""

from collections.abc import Callable

from tools.pruning.input_statistics import InputStatistics
from tools.pruning.ranking import Ranking


class Recording:
    """Records from `start()` until `stop()`; in between the trainer's calls are passed on."""

    def __init__(self, ranking: Ranking, statistics: InputStatistics) -> None:
        self.ranking, self.statistics = ranking, statistics
        self._stops: list[Callable[[], None]] = []

    def start(self) -> None:
        """Begin, if it has not begun."""
        if not self._stops:
            self._stops = [self.statistics.attach(), self.ranking.attach()]

    def stop(self) -> None:
        """End; nothing is left attached to the model."""
        for stop in self._stops:
            stop()
        self._stops = []

    def observe(self, loss_scale: float = 1.0) -> None:
        """After each backward pass; the loss of this micro-batch was multiplied by `loss_scale`."""
        if self._stops:
            self.ranking.observe(loss_scale)

    def end_step(self) -> None:
        """After the gradients of a step were cleared."""
        if self._stops:
            self.ranking.end_step()
            self.statistics.end_step()
