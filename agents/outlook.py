"""The outlook: what a classical searcher makes of the records so far, in few short lines that agents can be shown."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from agents.proposers.forest import expected_improvement
from agents.proposers.standing import Design, Draft, Standing, measured
from agents.surrogate import Expectation, Surrogate
from tools.spaces import SearchSpace

_RANDOM, _MUTANTS, _LEADERS = 200, 40, 3
_SHARE_OF_REGION = 0.1
_MOST_SUGGESTIONS = 3


@dataclass(frozen=True)
class Suggestion:
    """A new design on one line, and what is expected of it in words."""

    design: str
    expected: str


@dataclass(frozen=True)
class Outlook:
    """Where the surrogate expects good designs, learnt from `records` measured ones.

    `region` has a line for each part of the space, with the values that most of the best expected designs have, and
    `expected` is their mean expectation in words. The `suggestions` are those of highest expected improvement.
    """

    records: int
    region: tuple[str, ...]
    expected: str
    suggestions: tuple[Suggestion, ...]


def look_ahead(
    situation: Standing[Design, Draft],
    surrogate: Surrogate[Design, Draft],
    in_words: Callable[[Expectation], str],
    seed: int,
) -> Outlook | None:
    """The outlook at this turn; None while the surrogate knows too little to say anything.

    It looks at random designs and at mutations of the best ones. Equal records and seeds give equal outlooks.
    """
    known = measured(situation.history)
    if not surrogate.knows or not known:
        return None
    space, rng = situation.space, random.Random(seed)  # noqa: S311 - nothing here is secret
    leaders = [tried.design for _, tried in sorted(known, key=lambda one: (one[0], one[1].number))[:_LEADERS]]
    pool = [space.sample(rng) for _ in range(_RANDOM)]
    pool += [space.mutate(leaders[place % len(leaders)], rng) for place in range(_MUTANTS)]
    seen = {space.identity(tried.design) for tried in situation.history}
    fresh = {identity: design for design in pool if (identity := space.identity(design)) not in seen}
    designs = list(fresh.values())
    if not designs:
        return None
    expected = surrogate.expect_all(designs)
    scores = np.array([one.score for one in expected])
    deviations = np.array([one.deviation for one in expected])
    best = np.argsort(scores, kind="stable")[: max(1, round(_SHARE_OF_REGION * len(designs)))]
    gains = expected_improvement(scores, deviations, min(value for value, _ in known))
    chosen = np.argsort(-gains, kind="stable")[:_MOST_SUGGESTIONS]
    return Outlook(
        surrogate.records,
        tuple(_region(space, [designs[place] for place in best])),
        in_words(Expectation(None, float(scores[best].mean()), float(deviations[best].mean()))),
        tuple(Suggestion(space.describe(designs[place]), in_words(expected[place])) for place in chosen),
    )


def _region(space: SearchSpace[Design, Draft], designs: Sequence[Design]) -> list[str]:
    """A line for each part: `layers 0-4: kv_heads 2-3, ffn 1024-1280`, or `1<-0: nor_conv_3x3 (70 %)`."""
    codes, lines = np.array([space.encode(design) for design in designs]), []
    for part in space.parts:
        kinds = []
        for name, places in part.kinds:
            options = space.parameters[places[0]].options
            if space.parameters[places[0]].ordered:
                # The middle half: what the best agree on, without the outermost of them.
                shares = np.quantile(codes[:, places], (0.25, 0.75), method="nearest")
                ends = [options[min(int(code), len(options) - 1)] for code in shares]
                words = str(ends[0]) if ends[0] == ends[1] else f"{ends[0]}-{ends[1]}"
            else:
                code, count = Counter(codes[:, places].flatten().tolist()).most_common(1)[0]
                words = f"{options[code]} ({count / codes[:, places].size:.0%})"
            kinds.append(f"{name} {words}".strip())
        lines.append(f"{part.name}: {', '.join(kinds)}")
    return lines
