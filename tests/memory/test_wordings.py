"""Wordings of prompts on trial: what is counted, and what is said of another one."""

import pytest

from memory.records import Records
from memory.tables import Call, Run
from memory.wordings import FEWEST_DESIGNS, WordingCount, added_lines, better_wordings
from tests.memory.conftest import finish, make_design
from tests.postgresql import both_databases

new_database = both_databases

OWN = "---\nname: strategies\nversion: 1\n---\n# Answer\nThink of {{ parent.design }} and write.\n"
OTHER = "---\nname: strategies\nversion: 2\n---\n{% if x %}\nMove what is cut early to late layers.\n{% endif %}\n" + (
    "# Answer\nThink of {{ parent.design }} and write.\n"
)


def count(hash: str, designs: int, better: int, text: str = OTHER, name: str = "strategies") -> WordingCount:
    return WordingCount(hash, name, text, designs, better)


def test_another_wording_is_told_where_it_did_better() -> None:
    (told,) = better_wordings([count("own", 9, 3, OWN), count("other", 8, 5)], {"strategies": "own"})
    assert (told.id, told.text) == ("other", "Move what is cut early to late layers.")
    assert told.outcome == "5 of 8 designs better than their parents, with the present wording 3 of 9"


@pytest.mark.parametrize(
    "counts",
    [
        [],
        [count("own", 9, 3, OWN)],
        [count("other", 9, 9)],
        [count("own", FEWEST_DESIGNS - 1, 0, OWN), count("other", 9, 9)],
        [count("own", 9, 3, OWN), count("other", FEWEST_DESIGNS - 1, FEWEST_DESIGNS - 1)],
        [count("own", 9, 3, OWN), count("other", 9, 3)],
        [count("own", 9, 3, OWN), count("other", 9, 2)],
        [count("own", 9, 3, OWN), count("other", 9, 9, name="inspiration")],
        [count("own", 9, 3, OWN), count("other", 9, 9, OWN.replace("version: 1", "version: 3"))],
    ],
)
def test_else_nothing_is_said(counts: list[WordingCount]) -> None:
    assert better_wordings(counts, {"strategies": "own"}) == []


def test_the_best_of_several_others_is_told() -> None:
    counts = [count("own", 9, 3, OWN), count("good", 10, 6), count("better", 20, 13), count("lucky", 4, 4)]
    assert {one.id for one in better_wordings(counts, {"strategies": "own"})} == {"better"}


def test_lines_come_without_the_marks_of_the_template_language_and_are_few() -> None:
    assert added_lines(OWN, OTHER) == ["Move what is cut early to late layers."]
    assert added_lines(OWN, "{% if a %}Cut {{ b }} or {{ c }} of {{ d }}.{% endif %}") == ["Cut ... or ... of ...."]
    many = OTHER + "\n".join(f"A wholly different thought, number {number * 1111}." for number in range(9))
    assert len(added_lines(OWN, many)) == 3
    assert added_lines("no header", "{{ x }} - {% if y %}\nno header\n") == []


def asked(records: Records, run: str, turn: int, *hashes: str, candidate: int = 0) -> None:
    for hash in hashes:
        records.add_call(Call(run_id=run, turn=turn, candidate=candidate, agent="evolver", prompt_hash=hash, model="m"))


@pytest.fixture
def worded(records: Records) -> Records:
    """Trial 0 of loss 4; of wording `a` two better and one worse, of `b` one better, one failed, one of no parent."""
    records.create_run(Run(id="run-b", source="tiny", corpus="docs", config={"objective": "accuracy"}))
    for hash, name in (("a", "strategies"), ("b", "strategies"), ("c", "design"), ("d", "inspiration")):
        records.add_prompt(hash, name, f"text of {hash}")
    finish(records, "run-a", 0, make_design(ffn=(16, 16)), 4.0, stage="greedy")
    for turn, (loss, hash) in enumerate(((3.0, "a"), (3.5, "a"), (4.5, "a"), (3.9, "b"), (None, "b")), 1):
        finish(records, "run-a", turn, make_design(ffn=(16, 16 + turn)), loss, parent_number=0)
        asked(records, "run-a", turn, hash, "c", hash)
    finish(records, "run-a", 9, make_design(ffn=(16, 99)), 1.0)
    asked(records, "run-a", 9, "b")
    return records


def test_designs_are_counted_for_the_wordings_of_their_turn(worded: Records) -> None:
    counts = {one.hash: (one.designs, one.better) for one in worded.wording_counts(["strategies", "design"])}
    assert counts == {"a": (3, 2), "b": (2, 1)}, "design has one wording, and the last has no parent"
    assert worded.wording_counts(["inspiration", "nonsense"]) == []
    assert {one.designs for one in worded.wording_counts(["strategies"], ["run-b"])} == {0}
    assert worded.wording_counts(["strategies"])[0].text == "text of a"


def test_accuracy_is_the_higher_the_better(worded: Records) -> None:
    finish(worded, "run-b", 0, make_design(ffn=(16, 16)), 4.0, {"accuracy": 0.4}, stage="greedy")
    finish(worded, "run-b", 1, make_design(ffn=(16, 17)), 9.0, {"accuracy": 0.5}, parent_number=0)
    finish(worded, "run-b", 2, make_design(ffn=(16, 18)), 1.0, {"accuracy": 0.3}, parent_number=0)
    for turn in (1, 2):
        asked(worded, "run-b", turn, "a")
    counts = {one.hash: (one.designs, one.better) for one in worded.wording_counts(["strategies"], ["run-b"])}
    assert counts["a"] == (2, 1)


def test_what_a_tool_made_in_the_turn_and_other_candidates_count_for_nothing(worded: Records) -> None:
    finish(worded, "run-a", 20, make_design(ffn=(16, 77)), 1.0, parent_number=0, stage="tool", proposer="evolver_tool")
    finish(worded, "run-a", 20, make_design(ffn=(16, 78)), 1.0, parent_number=0, candidate=1)
    asked(worded, "run-a", 20, "a")
    counts = {one.hash: (one.designs, one.better) for one in worded.wording_counts(["strategies"])}
    assert counts["a"] == (3, 2)
