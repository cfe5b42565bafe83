"""What memory gave for one turn of a search: few, short, plain entries, each with its id and what came of it."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self


@dataclass(frozen=True)
class RetrievedDesign:
    """A past design: its id `RUN/NUMBER`, itself on one line, its loss, what came of it, how far it is in shape.

    `origin` is empty for a trial of the same run, else it says where the design comes from. The loss is None where it
    failed, and where it was measured otherwise than this run's, so that the two do not compare.
    """

    id: str
    design: str
    loss: float | None
    outcome: str
    distance: float
    origin: str = ""


@dataclass(frozen=True)
class RetrievedLesson:
    """A past strategy or pattern in its proposer's words, and what came of the design that it led to.

    The id is `RUN/NUMBER/LINE`; `distance` is 1 - cosine of the wording; `loss` and `origin` as in `RetrievedDesign`.
    """

    id: str
    text: str
    loss: float | None
    outcome: str
    distance: float
    origin: str = ""


@dataclass(frozen=True)
class RetrievedWording:
    """What another wording of a prompt says that the present one does not, and how often each led to a better design.

    The id is the hash of the other wording, `name` that of the template.
    """

    id: str
    name: str
    text: str
    outcome: str


@dataclass(frozen=True)
class RetrievedPattern:
    """A design principle that an agent named, and in how many later trials it held.

    The id is `RUN/NUMBER/LINE`, with the trial that it first led to; `origin` as in `RetrievedDesign`.
    """

    id: str
    text: str
    outcome: str
    origin: str = ""


@dataclass(frozen=True)
class RetrievedFinding:
    """What statistics over measured designs say, in a sentence. The id names what of the designs it is about."""

    id: str
    text: str


Note = RetrievedDesign | RetrievedLesson | RetrievedWording | RetrievedPattern | RetrievedFinding
NOTES: Mapping[str, type[Note]] = {
    "nearby": RetrievedDesign,
    "best": RetrievedDesign,
    "failed": RetrievedDesign,
    "lessons": RetrievedLesson,
    "wordings": RetrievedWording,
    "patterns": RetrievedPattern,
    "evidence": RetrievedFinding,
}
"""The kinds of a recollection, each with what its entries are."""
DESIGNS = tuple(kind for kind, note in NOTES.items() if note is RetrievedDesign)


@dataclass(frozen=True)
class Recollection:
    """All that memory gave for one turn; a field for each kind in `NOTES`, all empty where it knows nothing.

    `nearby` are designs near the current one, `best` good ones unlike each other, `failed` designs near it that could
    not be grown or are over a limit. No design stands in it twice.
    """

    nearby: tuple[RetrievedDesign, ...] = ()
    best: tuple[RetrievedDesign, ...] = ()
    failed: tuple[RetrievedDesign, ...] = ()
    lessons: tuple[RetrievedLesson, ...] = ()
    wordings: tuple[RetrievedWording, ...] = ()
    patterns: tuple[RetrievedPattern, ...] = ()
    evidence: tuple[RetrievedFinding, ...] = ()

    def __bool__(self) -> bool:
        return any(self.notes().values())

    def notes(self) -> dict[str, tuple[Note, ...]]:
        """The entries of each kind."""
        return {name: getattr(self, name) for name in NOTES}

    def listed(self) -> list[dict[str, Any]]:
        """One plain row for each entry, as `Proposal.retrieved` has it: kind, id, and all that was said beside text."""
        return [
            {
                "kind": kind,
                **{name: value for name, value in asdict(note).items() if name not in _TEXTS and value != ""},
            }
            for kind, notes in self.notes().items()
            for note in notes
        ]

    def document(self) -> dict[str, list[dict[str, Any]]]:
        """All of it as plain data, without empty kinds."""
        return {kind: [asdict(note) for note in notes] for kind, notes in self.notes().items() if notes}

    @classmethod
    def from_document(cls, values: Mapping[str, Any]) -> Self:
        """What `document` gave, also in another version: kinds and fields that are not known here are left out."""
        kinds: dict[str, Any] = {
            kind: tuple(_read(note, entry) for entry in values.get(kind, ())) for kind, note in NOTES.items()
        }
        return cls(**kinds)

    def without(self, ids: Collection[str]) -> Self:
        """The same without the designs of these ids, which are shown elsewhere."""
        kinds: dict[str, Any] = {
            kind: tuple(note for note in getattr(self, kind) if note.id not in ids) for kind in DESIGNS
        }
        return replace(self, **kinds)

    def of_run(self, old: str, new: str) -> Self:
        """The same with entries on trials of run `old` turned into entries on those of `new`."""
        kinds: dict[str, Any] = {
            kind: tuple(_renamed(note, old, new) for note in notes) for kind, notes in self.notes().items()
        }
        return replace(self, **kinds)


NOTHING = Recollection()
# Said in the call's messages; a list of what was retrieved has no need of it.
_TEXTS = {"text", "design"}


def _read(kind: type[Note], entry: Mapping[str, Any]) -> Note:
    known = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in entry.items() if name in known})


def _renamed(note: Note, old: str, new: str) -> Note:
    return replace(note, id=f"{new}/{note.id.removeprefix(f'{old}/')}") if note.id.startswith(f"{old}/") else note
