"""Divides the documents of a local corpus into train and validation, and takes a fair sample of each side."""

import hashlib
from collections.abc import Callable, Iterable, Iterator

from tools.errors import InputError
from tools.pretraining.documents import Document, Side, passages
from tools.settings import DataSettings

Documents = Callable[[], Iterator[Document]]

# No tokenizer in use needs more bytes of ordinary text for a token; texts beyond that are not kept in memory.
_BYTES_PER_TOKEN = 16


def text_key(text: str) -> bytes:
    """16 bytes that stand for a text; white space around it does not count."""
    return hashlib.sha256(text.strip().encode()).digest()[:16]


def hashed_side(key: bytes, validation_share: float) -> Side:
    """The side of a text whose corpus is too long to be read as a whole: its hash decides alone."""
    return "validation" if int.from_bytes(key[:8], "big") < validation_share * 2**64 else "train"


def divided_stream(documents: Iterable[Document], settings: DataSettings) -> Iterator[tuple[Document, Side]]:
    """Passages of a streamed corpus in its own order, each with its side."""
    seen: set[bytes] = set()
    for document in documents:
        key = text_key(document.text)
        if document.text.strip() and key not in seen:
            seen.add(key)
            for passage in passages(document):
                yield passage, hashed_side(key, settings.validation_share)


def divided_corpus(documents: Documents, settings: DataSettings, name: str) -> Iterator[tuple[Document, Side]]:
    """Passages of a local corpus in the order of their hashes, each with its side, as many as the settings can need.

    The corpus is read three times (`documents` starts it again), so that only the chosen passages are in memory.
    Raises InputError where it is empty or has a single document.
    """
    sides = _sides(documents(), settings, name)
    sizes = {key: len(passage.text.encode()) for key, passage in _passages(documents(), sides)}
    room: dict[Side, int] = {
        "train": settings.training_tokens * _BYTES_PER_TOKEN,
        "validation": settings.validation_tokens * _BYTES_PER_TOKEN,
    }
    chosen = []
    for key in sorted(sizes, key=lambda key: hashlib.sha256(key).digest()):
        side = sides[_document_key(key)]
        if room[side] > 0:
            room[side] -= sizes[key]
            chosen.append(key)
    wanted = set(chosen)
    texts = {key: passage for key, passage in _passages(documents(), sides) if key in wanted}
    for key in chosen:
        yield texts[key], sides[_document_key(key)]


def _sides(documents: Iterable[Document], settings: DataSettings, name: str) -> dict[bytes, Side]:
    """The side of each distinct text that is used.

    Sides that the rows name count where they name both; a text that is named for both is not trained on.
    """
    ranks: tuple[Side | None, ...] = (None, "train", "validation", "test")
    declared: dict[bytes, Side | None] = {}
    sizes: dict[bytes, int] = {}
    for document in documents:
        if document.text.strip():
            key = text_key(document.text)
            declared[key] = max(declared.get(key), document.side, key=ranks.index)
            sizes[key] = len(document.text.encode())
    if not declared:
        raise InputError(f"The corpus {name} is empty; give one with text in it.")
    if len(declared) == 1:
        raise InputError(f"The corpus {name} has only one document; training and validation need one each.")
    named = set(declared.values())
    held_out = next((side for side in ("validation", "test") if side in named), None)
    if held_out is None or not named & {"train", None}:
        return _by_hash(sizes, settings.validation_share)
    sides: dict[bytes, Side] = {}
    for key, side in declared.items():
        if side == held_out:
            sides[key] = "validation"
        elif side in ("train", None):
            sides[key] = "train"
    return sides


def _by_hash(sizes: dict[bytes, int], share: float) -> dict[bytes, Side]:
    """Texts in the order of their hashes go to validation until it has its share of the bytes, at least one each side.

    A text that would take validation far beyond its share is passed over, so a long one cannot take all.
    """
    goal = share * sum(sizes.values())
    validation: list[bytes] = []
    taken = 0
    for key in sorted(sizes):
        if taken < goal and taken + sizes[key] <= 1.5 * goal:
            validation.append(key)
            taken += sizes[key]
    if not validation:
        validation = [min(sizes, key=lambda key: (sizes[key], key))]
    if len(validation) == len(sizes):
        validation.pop()
    held_out = set(validation)
    return {key: "validation" if key in held_out else "train" for key in sizes}


def _passages(documents: Iterable[Document], sides: dict[bytes, Side]) -> Iterator[tuple[bytes, Document]]:
    """The passages of distinct documents that have a side; a passage's key starts with its document's."""
    seen: set[bytes] = set()
    for document in documents:
        key = text_key(document.text)
        if key in sides and key not in seen:
            seen.add(key)
            for number, passage in enumerate(passages(document)):
                yield key + number.to_bytes(4, "big"), passage


def _document_key(passage_key: bytes) -> bytes:
    return passage_key[:16]
