"""What memory gave for a turn: listed, written down, read again."""

import json

from memory.recollection import NOTES, Recollection, RetrievedDesign, RetrievedLesson, RetrievedWording

NEAR = RetrievedDesign("run/3", "d", 2.5, "loss 2.5", 0.1)
ELSEWHERE = RetrievedDesign("runs/3", "e", None, "failed", 0.2, "another run")
LESSON = RetrievedLesson("run/3/0", "Keep more.", 2.5, "loss 2.5", 0.0)
WORDING = RetrievedWording("f00d", "strategies", "Think twice.", "7 of 9")
FULL = Recollection((NEAR,), (ELSEWHERE,), (), (LESSON,), (WORDING,))


def test_it_is_nothing_where_memory_knows_nothing() -> None:
    assert not Recollection() and Recollection().listed() == [] and Recollection().document() == {}
    assert FULL and set(Recollection().notes()) == set(NOTES)


def test_every_entry_is_listed_with_its_kind_and_without_its_text() -> None:
    assert FULL.listed() == [
        {"kind": "nearby", "id": "run/3", "loss": 2.5, "outcome": "loss 2.5", "distance": 0.1},
        {"kind": "best", "id": "runs/3", "loss": None, "outcome": "failed", "distance": 0.2, "origin": "another run"},
        {"kind": "lessons", "id": "run/3/0", "loss": 2.5, "outcome": "loss 2.5", "distance": 0.0},
        {"kind": "wordings", "id": "f00d", "name": "strategies", "outcome": "7 of 9"},
    ]


def test_it_is_read_from_its_document_also_by_another_version() -> None:
    document = json.loads(json.dumps(FULL.document()))
    assert Recollection.from_document(document) == FULL
    document["nearby"][0]["mood"] = "good"
    document["dreams"] = [{"id": "x"}]
    del document["lessons"]
    found = Recollection.from_document(document)
    assert found.nearby == (NEAR,) and found.lessons == ()


def test_entries_on_one_run_become_entries_on_another() -> None:
    ids = [row["id"] for row in FULL.of_run("run", "new").listed()]
    assert ids == ["new/3", "runs/3", "new/3/0", "f00d"]


def test_what_is_shown_elsewhere_is_left_out() -> None:
    found = FULL.without({"run/3", "run/3/0"})
    assert found == Recollection((), (ELSEWHERE,), (), (LESSON,), (WORDING,))
