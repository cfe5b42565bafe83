"""Claims about cells of NAS-Bench-201: an operation on an edge, or more or fewer of it in all.

Operations go by their official names and by short ones: conv3 or 3x3 conv, conv1 or 1x1 conv, skip or identity, pool,
none. Edges are written 01, 0-1, 0->1, or 1<-0. A sentence is read where it names one operation, and an edge or a
direction; avoid, without, no, fewer, less and their like turn it round. All else is no claim.
"""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tools.spaces.nasbench201 import EDGES, Cell, Operation

_OPERATIONS: dict[Operation, str] = {
    "nor_conv_3x3": r"(?:nor_)?conv(?:olution)?s?_?3(?:x3)?|3x3 conv(?:olution)?s?",
    "nor_conv_1x1": r"(?:nor_)?conv(?:olution)?s?_?1(?:x1)?|1x1 conv(?:olution)?s?",
    "avg_pool_3x3": r"avg_pool_3x3|(?:3x3 )?(?:average |avg[ _-])?pool(?:s|ing)?",
    "skip_connect": r"skip(?:s|_connect|[ -]connections?)?|identity",
    "none": r"none|zeroi[sz]e",
}
_MORE = (
    r"more|use|uses|used|using|keep\w*|prefer\w*|share|have|has|with|add\w*|increas\w*|"
    r"common|often|always|many|place|put"
)
_FEWER = r"fewer|few|less|avoid\w*|without|no|not|remov\w*|reduc\w*|never|drop\w*|rarely|replace\w*"
_EDGE = re.compile(r"(?<!\w)(?<!\d\.)(?:([0-2])(?:\s*(?:->|-|to)\s*)?([1-3])|([1-3])\s*<-\s*([0-2]))(?!\w|\.\d)")


class CellClaim(BaseModel):
    """An operation on an edge, (node, earlier node), or where there is none in all; more or fewer of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation: Operation
    edge: tuple[int, int] | None
    direction: Literal["more", "fewer"]

    def movement(self, before: Cell, after: Cell) -> float:
        """So many edges more that have the operation, fewer where fewer are claimed."""
        change = self._count(after) - self._count(before)
        return float(change if self.direction == "more" else -change)

    def in_words(self) -> str:
        """`nor_conv_3x3 on 1<-0`, `no none on 3<-0`, `fewer skip_connect`."""
        if self.edge is None:
            return f"{self.direction} {self.operation}"
        words = f"{self.operation} on {self.edge[0]}<-{self.edge[1]}"
        return words if self.direction == "more" else f"no {words}"

    def _count(self, cell: Cell) -> int:
        pairs = zip(EDGES, cell.operations, strict=True)
        return sum(name == self.operation and self.edge in (None, edge) for edge, name in pairs)


def read_cell_claim(sentence: str) -> CellClaim | None:
    """What a sentence claims of cells; None where it cannot be tested."""
    text = re.sub(
        r"\b(?:because|since|so that|to (?:improve|raise|lower))\b.*", " ", " ".join(sentence.lower().split())
    )
    named: set[Operation] = set()
    for operation, words in _OPERATIONS.items():
        text, count = re.subn(rf"(?<!\w)(?:{words})(?!\w)", " ", text)
        if count:
            named.add(operation)
    edges = set()
    for one, other, node, earlier in _EDGE.findall(text):
        edges.add((int(other), int(one)) if other else (int(node), int(earlier)))
    more, fewer = (bool(re.search(rf"\b(?:{words})\b", text)) for words in (_MORE, _FEWER))
    if len(named) != 1 or len(edges) > 1 or not edges <= set(EDGES) or not (edges or more or fewer):
        return None
    if more and fewer and re.search(r"\b(?:more|less|fewer|not)\b", text):
        # "Not more", "more ... and fewer": nobody knows of what.
        return None
    return CellClaim(operation=named.pop(), edge=edges.pop() if edges else None, direction="fewer" if fewer else "more")
