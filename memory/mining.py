"""Which choices go with good scores at equal size: statistics over measured designs; nothing where they say nothing.

Each feature has its slope in a linear regression of the score on it and on the logarithm of the parameters. It counts
where at least eight distinct designs were measured, three of which differ in it from most; where its 95 % interval
leaves out 0; and where it stays among those that the rule of Benjamini and Hochberg keeps at a false discovery rate of
5 %, with p-values of permuted residuals (Freedman and Lane), which hold for few designs and odd losses too. So with
scores that have nothing to do with the designs, at most one mining in twenty finds anything. Of features that go with
each other the clearest is told, and others only for what they are worth beside it.

A tree of two levels looks for one interaction: two features that go with the score together otherwise than each alone.

It is association, not cause: designs of one lineage are alike in more than one width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from memory.features import Feature

Array = npt.NDArray[np.float64]

FEWEST_DESIGNS = 8
FALSE_DISCOVERIES = 0.05
_FEWEST_OTHERS = 3
_PERMUTATIONS = 2000
_DESIGNS_OF_ONE = 4
"""For so many designs one finding."""
_TINY = 1e-12
_FEWEST_FOR_TREE, _TREE_PERMUTATIONS, _TREE_LEAF = 24, 400, 4


@dataclass(frozen=True)
class Aim:
    """What is measured: a score that is the lower the better is `sign` times this figure."""

    name: str
    unit: str
    sign: int = 1

    @property
    def better(self) -> str:
        """`lower loss`, `higher accuracy`."""
        return f"{'lower' if self.sign > 0 else 'higher'} {self.name}"

    def figure(self, change: float) -> str:
        """A change of the score as one of the figure."""
        return f"{self.sign * change:+.3f}"


LOSS, ACCURACY = Aim("loss", "nats"), Aim("accuracy", "", -1)


@dataclass(frozen=True)
class Finding:
    """A choice that goes with better scores at equal size: `effect` is the change of the score, below 0.

    `low` and `high` are its 95 % interval; `designs` how many distinct ones it was learnt from.
    """

    name: str
    choice: str
    unit: str
    effect: float
    low: float
    high: float
    designs: int

    def in_words(self, aim: Aim) -> str:
        """One plain sentence."""
        bounds = sorted((aim.sign * self.low, aim.sign * self.high))
        unit = " ".join(word for word in (aim.unit, self.unit) if word)
        interval = f"95 % {bounds[0]:+.3f} to {bounds[1]:+.3f}"
        figure = " ".join(word for word in (aim.figure(self.effect), unit) if word)
        return f"{self.choice} with {aim.better}: {figure} ({interval}; {self.designs} designs)"


def mine(features: Sequence[Feature], scores: Sequence[float], sizes: Sequence[int] | None = None) -> list[Finding]:
    """What the distinct designs behind these say, the clearest first; empty where it is nothing.

    Args:
        features: each with a value for every design.
        scores: the lower the better, one for each design, all of one fidelity and one source.
        sizes: parameters of each, where the space has sizes.

    There is no chance in it: equal designs give equal findings, in any order.
    """
    if len(scores) < FEWEST_DESIGNS or not features:
        return []
    # Permutations are drawn by place: the places follow from the designs.
    order = np.lexsort([*(one.values for one in features), np.asarray(scores)])
    features = [replace(one, values=one.values[order]) for one in features]
    scores = [scores[place] for place in order]
    sizes = None if sizes is None else [sizes[place] for place in order]
    given = np.ones((len(scores), 1))
    if sizes is not None and np.ptp(np.log(sizes)) > 0:
        given = np.column_stack([given, np.log(sizes)])
    looked_at = [feature for feature in features if _varies(feature.values)]
    columns = _residuals(np.column_stack([one.values for one in looked_at]), given) if looked_at else given[:, :0]
    apart = [place for place in range(len(looked_at)) if _is_free(columns[:, place], looked_at[place].values)]
    looked_at, columns = [looked_at[place] for place in apart], columns[:, apart]
    if not looked_at:
        return []
    score = _residuals(np.asarray(scores, dtype=np.float64)[:, None], given)[:, 0]
    if not np.ptp(score) > _TINY:
        return []
    p_values = [*_p_values(columns, score, given)]
    product = _interaction(looked_at, score, given)
    kept = _discoveries([*p_values, *(p for p, _ in product)])
    chosen = _apart([place for place in kept if place < len(columns.T)], columns, score, given)
    found = [_single(looked_at[place], place, chosen, columns, score, given) for place in chosen]
    found += [finding for place, (_, finding) in enumerate(product, len(looked_at)) if place in kept]
    return [finding for finding in found if finding.high < 0]


def _apart(kept: Sequence[int], columns: Array, score: Array, given: Array) -> list[int]:
    """Those of the kept columns that go with the score also at equal others, the clearest first.

    At equal size one width is what the others leave: what is only the other side of a clearer one is no finding, nor is
    what turns round beside it.
    """
    chosen: list[int] = []
    while len(chosen) < len(score) // _DESIGNS_OF_ONE:
        known = np.column_stack([given, columns[:, chosen]])
        left = _residuals(columns, known)
        rest = _residuals(score[:, None], known)[:, 0]
        clear: dict[int, float] = {}
        for place in kept:
            if place not in chosen and left[:, place].var() > _TINY * columns[:, place].var():
                effect, error = _slope(left[:, place], rest, known.shape[1])
                if effect * float(columns[:, place] @ score) > 0:
                    clear[place] = abs(effect) / max(error, _TINY)
        best = max(clear, key=lambda place: clear[place], default=None)
        if best is None or clear[best] < _bound(len(score), known.shape[1]):
            break
        chosen.append(best)
    return chosen


def _varies(values: Array) -> bool:
    """Whether at least three designs differ from the value that most have."""
    _, counts = np.unique(values.round(9), return_counts=True)
    return len(values) - int(counts.max()) >= _FEWEST_OTHERS


def _is_free(residual: Array, values: Array) -> bool:
    """Whether a feature is more than a function of the size."""
    return float(residual.var()) > 1e-6 * float(values.var())


def _residuals(columns: Array, given: Array) -> Array:
    """Columns [designs, n] without what `given` [designs, m] explains of them."""
    basis, _ = np.linalg.qr(given)
    left: Array = columns - basis @ (basis.T @ columns)
    return left


def _p_values(columns: Array, score: Array, given: Array) -> Array:
    """For each column the share of permutations of the scores that go with it at least as closely."""
    chance = np.random.default_rng(0)
    shuffled = np.column_stack([score, *(chance.permutation(score) for _ in range(_PERMUTATIONS))])
    left = _residuals(shuffled, given)
    unit = columns / np.linalg.norm(columns, axis=0)
    closeness = np.abs(unit.T @ (left / np.linalg.norm(left, axis=0)))
    as_close = closeness[:, 1:] >= closeness[:, :1] * (1 - 1e-9)
    shares: Array = (1 + as_close.sum(axis=1)) / (1 + _PERMUTATIONS)
    return shares


def _single(feature: Feature, place: int, chosen: Sequence[int], columns: Array, score: Array, given: Array) -> Finding:
    """What one of the chosen features is worth at equal size and equal others."""
    known = np.column_stack([given, columns[:, [other for other in chosen if other != place]]])
    column, rest = _residuals(columns[:, [place]], known)[:, 0], _residuals(score[:, None], known)[:, 0]
    effect, error = _slope(column, rest, known.shape[1])
    better = feature.less if effect > 0 else feature.more
    return _finding(feature.name, f"{better} {feature.verb}", feature.unit, effect, error, len(score), known.shape[1])


def _slope(column: Array, score: Array, given: int) -> tuple[float, float]:
    """Slope and its standard error; both are residuals, `given` parameters were fitted before."""
    square = float(column @ column)
    effect = float(column @ score) / square
    rest = score - effect * column
    return effect, float(np.sqrt(rest @ rest / (len(score) - given - 1) / square))


def _finding(name: str, choice: str, unit: str, effect: float, error: float, designs: int, given: int) -> Finding:
    half = _bound(designs, given) * error
    return Finding(name, choice, unit, -abs(effect), -abs(effect) - half, -abs(effect) + half, designs)


def _bound(designs: int, given: int) -> float:
    """So many standard errors are the half of a 95 % interval."""
    from scipy.stats import t as students_t  # type: ignore[import-untyped]

    return float(students_t.ppf(0.975, designs - given - 1))


def _discoveries(p_values: Sequence[float]) -> set[int]:
    """Places of those that the rule of Benjamini and Hochberg keeps."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    kept = 0
    for rank, place in enumerate(order, 1):
        if p_values[place] <= FALSE_DISCOVERIES * rank / len(order):
            kept = rank
    return set(order[:kept])


def _interaction(features: Sequence[Feature], score: Array, given: Array) -> list[tuple[float, Finding]]:
    """The one that a tree of two levels points at, with its p-value; none where there are too few designs."""
    if len(score) < _FEWEST_FOR_TREE or len(features) < 2:
        return []
    rows = np.column_stack([one.values for one in features])
    split = _split(rows, score)
    if split is None:
        return []
    effect, error, additive, rest = _product(rows, score, given, split)
    reached, chance, as_close, tries = abs(effect / error), np.random.default_rng(1), 0, 0
    while tries < _TREE_PERMUTATIONS and as_close < _TREE_PERMUTATIONS * FALSE_DISCOVERIES:
        tries += 1
        shuffled = additive + chance.permutation(rest)
        other = _split(rows, shuffled)
        if other is not None:
            found, spread, _, _ = _product(rows, shuffled, given, other)
            as_close += abs(found / spread) >= reached
    (first, low), (second, high) = split
    where, what = features[first], features[second]
    more = effect < 0
    condition = f"where {where.name} is above {where.figure(low)}"
    choice = f"{condition}, {what.name} {'above' if more else 'below'} {what.figure(high)} goes, more than elsewhere,"
    name = f"{what.name} with {where.name}"
    return [((1 + as_close) / (1 + tries), _finding(name, choice, "", effect, error, len(score), given.shape[1] + 2))]


Split = tuple[tuple[int, float], tuple[int, float]]
"""Two features, each with the value at which the tree parts them."""


def _split(rows: Array, score: Array) -> Split | None:
    """The split at the root, and the better of those below it that is on another feature."""
    from sklearn.tree import DecisionTreeRegressor

    leaf = max(_TREE_LEAF, len(score) // 10)
    tree = DecisionTreeRegressor(max_depth=2, min_samples_leaf=leaf, random_state=0).fit(rows, score).tree_
    gains = []
    for child in (tree.children_left[0], tree.children_right[0]) if tree.node_count > 1 else ():
        left, right = tree.children_left[child], tree.children_right[child]
        if left >= 0 and tree.feature[child] != tree.feature[0]:
            spread = [tree.n_node_samples[node] * tree.impurity[node] for node in (child, left, right)]
            gains.append((spread[0] - spread[1] - spread[2], child))
    if not gains:
        return None
    _, best = max(gains)
    found: Split = (
        (int(tree.feature[0]), float(tree.threshold[0])),
        (int(tree.feature[best]), float(tree.threshold[best])),
    )
    first, second = (rows[:, place] > threshold for place, threshold in found)
    cells = [int(((first == one) & (second == other)).sum()) for one in (False, True) for other in (False, True)]
    return found if min(cells) >= _FEWEST_OTHERS else None


def _product(rows: Array, score: Array, given: Array, split: Split) -> tuple[float, float, Array, Array]:
    """Slope of both together beyond each alone, its error, and the score as each alone explains it, and the rest."""
    first, second = ((rows[:, place] > threshold).astype(np.float64) for place, threshold in split)
    alone = np.column_stack([given, first, second])
    rest = _residuals(score[:, None], alone)[:, 0]
    both = _residuals((first * second)[:, None], alone)[:, 0]
    effect, error = _slope(both, rest, alone.shape[1])
    return effect, max(error, _TINY), score - rest, rest
