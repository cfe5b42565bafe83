"""Wordings of prompts on trial: what another wording of a template says, where it led to better designs more often."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memory.recollection import RetrievedWording

FEWEST_DESIGNS = 5
"""With fewer measured designs behind either wording nothing is said."""
MOST_LINES = 3
"""Of the lines of another wording so many are told."""
_VALUES = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_TAGS = re.compile(r"\{%.*?%\}|\{#.*?#\}", re.DOTALL)


@dataclass(frozen=True)
class WordingCount:
    """One wording of a template: its hash and text, the designs that it led to, those better than their parents."""

    hash: str
    name: str
    text: str
    designs: int
    better: int

    @property
    def rate(self) -> float:
        """The share that was better."""
        return self.better / self.designs if self.designs else 0.0


def better_wordings(counts: Sequence[WordingCount], present: Mapping[str, str]) -> list[RetrievedWording]:
    """What the best other wording of each template says that the present one does not, where it did better.

    Args:
        counts: of all wordings with designs behind them.
        present: the hash of the wording in use, by the name of its template.
    """
    found: list[RetrievedWording] = []
    for name, hash in present.items():
        known = {one.hash: one for one in counts if one.name == name and one.designs >= FEWEST_DESIGNS}
        if hash not in known:
            continue
        own = known.pop(hash)
        # Of equal rates the one with more designs behind it.
        other = max(known.values(), key=lambda one: (one.rate, one.designs, one.hash), default=None)
        if other is None or other.rate <= own.rate:
            continue
        rates = f"{other.better} of {other.designs} designs better than their parents"
        words = f"{rates}, with the present wording {own.better} of {own.designs}"
        found += [RetrievedWording(other.hash, name, line, words) for line in added_lines(own.text, other.text)]
    return found


def added_lines(own: str, other: str) -> list[str]:
    """At most three lines of the body of `other` that `own` has not, each value that it is filled with as `...`."""
    old, new = _lines(own), _lines(other)
    return [line for line in new if not difflib.get_close_matches(line, old, n=1, cutoff=0.95)][:MOST_LINES]


def _lines(source: str) -> list[str]:
    """The words of a template's body, line by line; its header is between two lines of ---."""
    body = source.split("\n---", 1)[-1] if source.startswith("---") else source
    stripped = [" ".join(_VALUES.sub("...", _TAGS.sub(" ", line)).split()) for line in body.splitlines()]
    return [line for line in stripped if re.search(r"\w{2}", line)]
