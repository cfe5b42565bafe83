"""Text of language models inside prompts: as data that cannot pass for a part of the prompt, and not too long."""

import re
import unicodedata
from dataclasses import fields
from typing import Any

from memory.recollection import Note, Recollection

_LONGEST_NOTE = 240
# A design is told in at most six runs of layers, by code; without its last layers it would be another one.
_LONGEST_DESIGN = 600
_LONGEST_ANSWER = 4000
_QUOTES = dict.fromkeys(map(ord, '"\u201c\u201d\u201e\u201f\u2033\u2036\u00ab\u00bb\uff02`'), "'")
# Beginnings of <|im_end|>, </s>, [INST] and their like: chat templates give these to the tokenizer unquoted.
_MARKUP = re.compile(r"(?<=[<\[])(?=[|\uff5c/a-zA-Z])")


def as_data(text: str, longest: int = _LONGEST_NOTE) -> str:
    """One line without double quotes, control characters and markup of chat templates, of at most `longest` characters.

    Templates put it between double quotes, which it cannot close; without line breaks it begins no heading either.
    """
    visible = "".join(" " if unicodedata.category(mark) in ("Cc", "Cf", "Zl", "Zp") else mark for mark in text)
    line = " ".join(_MARKUP.sub(" ", visible.translate(_QUOTES)).split())
    return line if len(line) <= longest else line[: longest - 3] + "..."


def memory_rows(recollection: Recollection) -> dict[str, list[dict[str, Any]]]:
    """What memory gave, as the variables of templates: the designs nearby are their `history`."""
    rows = {kind: [note_row(note) for note in notes] for kind, notes in recollection.notes().items()}
    return {"history" if kind == "nearby" else kind: found for kind, found in rows.items()}


def note_row(note: Note) -> dict[str, Any]:
    """An entry as templates show it: all its text as data."""
    values = {field.name: getattr(note, field.name) for field in fields(note)}
    longest = {"design": _LONGEST_DESIGN}
    return {
        name: as_data(value, longest.get(name, _LONGEST_NOTE)) if isinstance(value, str) else value
        for name, value in values.items()
    }


def as_answered(raw: str) -> str:
    """An answer as the next message of its conversation repeats it: babble must not fill the model's context.

    An empty one is refused by some servers as a message.
    """
    if len(raw) > _LONGEST_ANSWER:
        return f"{raw[:_LONGEST_ANSWER]} (shortened)"
    return raw or "(no answer)"
