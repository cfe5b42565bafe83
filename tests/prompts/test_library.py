"""The loader of prompts, on real files in a temporary folder."""

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts import PromptError, PromptLibrary

HEADER = "---\nname: {name}\ndescription: a test\nversion: 1\nvariables: [{variables}]\nanswer: Proposal\n---\n"


def write(folder: Path, name: str, body: str, variables: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.md"
    path.write_text(HEADER.format(name=name, variables=variables) + body, encoding="utf-8")
    # Two writes within the clock's step and of equal length would look alike.
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + len(write.calls)))  # type: ignore[attr-defined]
    write.calls.append(path)  # type: ignore[attr-defined]
    return path


write.calls = []  # type: ignore[attr-defined]


@pytest.fixture
def packaged(tmp_path: Path) -> Path:
    write(tmp_path / "packaged", "evolver", "Design: {{ design }}\n{% for s in steps %}\n- {{ s }}\n{% endfor %}\nEnd",
          "design, steps")  # fmt: skip
    write(tmp_path / "packaged", "distiller", "Nothing to fill in.")
    return tmp_path / "packaged"


def test_renders_and_names_the_version(packaged: Path) -> None:
    library = PromptLibrary(packaged=packaged)
    prompt = library.render("evolver", design='{"hidden_size": 512}', steps=["one", "two"])
    data = (packaged / "evolver.md").read_bytes()
    assert prompt.text == 'Design: {"hidden_size": 512}\n- one\n- two\nEnd'
    assert prompt.hash == hashlib.sha256(data).hexdigest()[:16]
    assert prompt.template.encode() == data
    assert prompt.name == "evolver"
    assert library.header("evolver").answer == "Proposal"
    assert library.header("evolver").version == "1"
    assert library.names() == ("distiller", "evolver")


def test_values_are_never_rendered(packaged: Path) -> None:
    prompt = PromptLibrary(packaged=packaged).render("evolver", design="{{ 7 * 7 }}{% raw %}", steps=[])
    assert "{{ 7 * 7 }}{% raw %}" in prompt.text


def test_overlay_replaces_one_file_and_may_add_others(packaged: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "mine"
    write(overlay, "evolver", "Mine: {{ design }}", "design")
    write(overlay, "critic", "New.")
    library = PromptLibrary(overlay, packaged=packaged)
    assert library.render("evolver", design="d", steps=["ignored"]).text == "Mine: d"
    assert library.render("distiller").text == "Nothing to fill in."
    assert library.names() == ("critic", "distiller", "evolver")
    assert library.path("evolver") == overlay / "evolver.md"
    (overlay / "evolver.md").unlink()
    assert library.render("evolver", design="d", steps=[]).text.startswith("Design: d")


def test_overlay_may_use_only_what_the_packaged_prompt_is_given(packaged: Path, tmp_path: Path) -> None:
    write(tmp_path / "mine", "evolver", "{{ desing }}", "desing")
    with pytest.raises(PromptError, match="'desing' is not given to 'evolver'; given are: design, steps"):
        PromptLibrary(tmp_path / "mine", packaged=packaged).render("evolver", design="d", steps=[])


def test_missing_overlay_folder(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="no such folder"):
        PromptLibrary(tmp_path / "absent")


def test_edit_is_taken_at_the_next_render_and_a_broken_one_refused(packaged: Path) -> None:
    library = PromptLibrary(packaged=packaged)
    first = library.render("distiller")
    write(packaged, "distiller", "Edited.")
    second = library.render("distiller")
    assert second.text == "Edited."
    assert second.hash != first.hash
    write(packaged, "distiller", "Broken {{ oops")
    assert library.render("distiller") == second
    assert library.problems["distiller"].line == 8
    write(packaged, "distiller", "Cured.")
    assert library.render("distiller").text == "Cured."
    assert library.problems == {}


@pytest.mark.parametrize(
    ("body", "variables", "line", "reason"),
    [
        ("one\n{{ oops", "", 9, "unexpected end"),
        ("one\ntwo {{ parnets }}", "parents", 9, "'parnets' is used but not among"),
        ("one", "parents", None, "'parents' is among the variables of the header but not used"),
        ("{% include 'x' %}", "", None, "one file"),
        ("{{ range(9) }}", "", 8, "'range' is used but not among"),
    ],
)
def test_broken_file_says_line_and_reason(
    tmp_path: Path, body: str, variables: str, line: int | None, reason: str
) -> None:
    path = write(tmp_path, "bad", body, variables)
    with pytest.raises(PromptError, match=reason) as caught:
        PromptLibrary(packaged=tmp_path).render("bad")
    assert caught.value.line == line
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("no header", 1, "begins with a YAML header"),
        ("---\nname: bad\n", 1, "no closing line"),
        ("---\nname: bad\ndescription: [1\n---\n", 3, "not YAML"),
        ("---\nname: bad\nversion: 1\nvariables: []\n---\n", None, "description: Field required"),
        ("---\nname: bad\ndescription: d\nversion: 1\nvariables: 5\n---\n", 5, "variables: Input should be"),
        ("---\nname: bad\ndescription: d\nversion: 1\nvariables: []\ncolour: red\n---\n", 6, "colour: Extra"),
        ("---\nname: other\ndescription: d\nversion: 1\nvariables: []\n---\n", None, "name is 'other'"),
        ("---\n- a\n---\n", None, "header"),
    ],
)
def test_broken_header_says_line_and_reason(tmp_path: Path, text: str, line: int | None, reason: str) -> None:
    (tmp_path / "bad.md").write_text(text, encoding="utf-8")
    with pytest.raises(PromptError, match=reason) as caught:
        PromptLibrary(packaged=tmp_path).render("bad")
    assert caught.value.line == line


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "bad.md").write_bytes(b"---\n\xff\xfe")
    with pytest.raises(PromptError, match="not UTF-8"):
        PromptLibrary(packaged=tmp_path).render("bad")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("\n{{ value.missing }}", "has no attribute 'missing'"),
        ("\n{{ 1 / 0 }}{{ value }}", "division by zero"),
        ("\n{{ '%d' % 'x' }}{{ value }}", "format"),
        ("\n{{ value.__class__.__mro__ }}", "unsafe"),
        ("\n{{ value.append(1) }}", "unsafe"),
    ],
)
def test_errors_of_rendering_name_the_line(tmp_path: Path, body: str, reason: str) -> None:
    write(tmp_path, "bad", body, "value")
    with pytest.raises(PromptError, match=reason) as caught:
        PromptLibrary(packaged=tmp_path).render("bad", value=[1])
    assert caught.value.line == 9


def test_variable_that_was_not_given(packaged: Path) -> None:
    with pytest.raises(PromptError, match=r"line 8: 'design' is undefined"):
        PromptLibrary(packaged=packaged).render("evolver", steps=[])


@given(st.text(max_size=30))
def test_names_never_leave_the_folder(name: str) -> None:
    library = PromptLibrary(packaged=Path(__file__).parent)
    with pytest.raises(PromptError):
        library.render(name)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "", "Evolver", "a.b", "a\n", "..", "a\0b"])
def test_odd_names_are_refused_although_the_file_exists(tmp_path: Path, name: str) -> None:
    write(tmp_path, "secret", "x")
    with pytest.raises(PromptError, match="is no name of a prompt"):
        PromptLibrary(packaged=tmp_path).path(name)


def test_unknown_name_lists_those_there_are(packaged: Path) -> None:
    with pytest.raises(PromptError, match="there are: distiller, evolver"):
        PromptLibrary(packaged=packaged).render("evolvr")
