"""Ranking and input statistics of a model in training, recorded together: what the trainer calls on the way.

Once the moments are known well, they are read in every fourth step only (`sampling`), and so is a ranking that can be:
the other steps are dense ones.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tools.pruning.input_statistics import InputStatistics
from tools.pruning.ranking import Ranking
from tools.pruning.sampling import EVERY_STEPS


class Recording:
    """Records from `start()` until `stop()`; in between the trainer's calls are passed on.

    `steps` counts the steps since the first start: what a checkpoint needs to go on with the same ones.
    """

    def __init__(self, ranking: Ranking, statistics: InputStatistics) -> None:
        self.ranking, self.statistics = ranking, statistics
        self.steps = 0
        self._started = False
        self._attached: dict[str, Callable[[], None]] = {}

    def start(self) -> None:
        """Begin, if it has not begun."""
        if not self._started:
            self._started = True
            self.prepare()

    def stop(self) -> None:
        """End; nothing is left attached to the model."""
        self._started = False
        self._detach()

    def observe(self, loss_scale: float = 1.0) -> None:
        """After each backward pass; the loss of this micro-batch was multiplied by `loss_scale`."""
        if "ranking" in self._attached:
            self.ranking.observe(loss_scale)

    def end_step(self) -> None:
        """After the gradients of a step were cleared."""
        if self._started:
            self.ranking.end_step()
            self.statistics.end_step()
            self.steps += 1
            self.prepare()

    def prepare(self) -> None:
        """Attach what the next step is to be read by; again after a cut, which changes how much is enough."""
        self._detach()
        if not self._started:
            return
        sparsely = self.statistics.knows_enough
        due = not sparsely or self.steps % EVERY_STEPS == 0
        if due:
            self._attached["statistics"] = self.statistics.attach(sparsely)
        if due or not self.ranking.samples_tokens:
            self._attached["ranking"] = self.ranking.attach(sparsely)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within the block nothing is read of what the model does; afterwards all is as if there had been no block."""
        self._detach()
        try:
            yield
        finally:
            self.prepare()

    def _detach(self) -> None:
        for detach in self._attached.values():
            detach()
        self._attached = {}
