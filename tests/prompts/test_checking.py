"""What is found about a user's template, on real files."""

from pathlib import Path

import pytest

from prompts import PromptLibrary
from prompts.checking import check, difference


def own(folder: Path, name: str, *replacements: tuple[str, str]) -> PromptLibrary:
    """A library whose user has the packaged template with some words replaced."""
    text = PromptLibrary().packaged(name).read_text(encoding="utf-8")
    for before, after in replacements:
        assert before in text
        text = text.replace(before, after)
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    return PromptLibrary(folder)


def test_nothing_is_wrong_with_what_is_packaged() -> None:
    library = PromptLibrary()
    assert [finding for name in library.names() for finding in check(library, name)] == []
    assert all(difference(library, name) == [] for name in library.names())


@pytest.mark.parametrize(
    ("before", "after", "level", "words"),
    [
        ("# Measurements", "Measured:", "warning", "section 'Measurements' of the packaged one is missing"),
        ("answer: StrategiesAnswer", "answer: Haiku", "error", "what is read is StrategiesAnswer"),
        ("As JSON.", "As a poem.", "warning", "answers are read as JSON"),
        ("{{ parent.design }}", "{{ weather }}", "error", "'weather' is used but not among the variables"),
        ("{{ parent.design }}", "{{ parent.design", "error", "unexpected"),
        ("variables: [parent, ", "variables: [parent, weather, ", "error", "'weather' is among the variables"),
    ],
)
def test_what_is_found(tmp_path: Path, before: str, after: str, level: str, words: str) -> None:
    found = check(own(tmp_path / "mine", "strategies", (before, after)), "strategies")
    assert any(finding.level == level and words in finding.words for finding in found), found


def test_a_variable_that_is_given_to_no_template_of_this_name(tmp_path: Path) -> None:
    library = own(
        tmp_path / "mine",
        "design",
        ("[min_parameters", "[weather, min_parameters"),
        ("# Answer", "# Answer {{ weather }}"),
    )
    (found,) = check(library, "design")
    assert found.level == "error" and "'weather' is not given to 'design'" in found.words


def test_a_name_that_nobody_asks_for(tmp_path: Path) -> None:
    (tmp_path / "strategy.md").write_text("---\nname: strategy\ndescription: d\nversion: 1\nvariables: []\n---\nx\n")
    (found,) = check(PromptLibrary(tmp_path), "strategy")
    assert found.level == "warning" and "did you mean 'strategies'" in found.words


def test_what_differs_from_the_packaged_one(tmp_path: Path) -> None:
    lines = difference(own(tmp_path / "mine", "design", ("As JSON.", "As short JSON.")), "design")
    assert any(line.startswith("-") and "As JSON." in line for line in lines)
    assert any(line.startswith("+") and "As short JSON." in line for line in lines)
