"""Templates cannot get out of their sandbox: the known ways to Python, files, other templates and what is given."""

from pathlib import Path

import pytest

from prompts import PromptError, PromptLibrary
from tests.prompts.test_library import write

ESCAPES = {
    "the class of a string": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "the class of a list": "{{ [].__class__.__base__.__subclasses__() }}",
    "the class of a number": "{{ (1).__class__ }}",
    "the class of what is given": "{{ value.__class__.__init__.__globals__ }}",
    "by a subscript": "{{ value['__class__']['__mro__'] }}",
    "by the filter attr": "{{ value|attr('__class__')|attr('__mro__') }}",
    "by attr and escapes": r"{{ value|attr('\x5f\x5fclass\x5f\x5f') }}",
    "by a name put together": "{{ value|attr(['__cl', 'ass__']|join) }}",
    "by a format string": "{{ '{0.__class__.__mro__}'.format(value) }}",
    "by a format string of a map": "{{ '{x.__class__}'.format_map({'x': value}) }}",
    "by a format string in a filter": "{{ ('{0.__class__}')|string|attr('format')(value) }}",
    "by the filter map": "{{ [value]|map(attribute='__class__')|list }}",
    "by the filter map on a format": "{{ ['{0.__class__}']|map('format', value)|list }}",
    "by the filter groupby": "{{ [value]|groupby('__class__')|list }}",
    "by the filter selectattr": "{{ [value]|selectattr('__class__')|map(attribute='__class__.__mro__')|list }}",
    "by the filter sum": "{{ [value]|sum(attribute='__class__', start=0) }}",
    "by the filter sort": "{{ [value, value]|sort(attribute='__class__.__name__')|first|attr('__class__') }}",
    "by a macro": "{% macro m() %}{% endmacro %}{{ m.__class__ }}",
    "by a macro's globals": "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "by a caller": "{% macro m() %}{{ caller.__globals__ }}{% endmacro %}{% call m() %}{% endcall %}",
    "by a loop": "{% for x in value %}{{ loop.__class__.__init__.__globals__ }}{% endfor %}",
    "by a namespace": "{% set n = namespace() %}{{ n.__init__.__globals__ }}",
    "by the cycler": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "by the joiner": "{{ joiner.__init__.__globals__ }}",
    "by lipsum": "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "by itself": "{{ self.__init__.__globals__ }}",
    "by itself's context": "{{ self._TemplateReference__context.cycler.__init__.__globals__ }}",
    "by the configuration": "{{ config.items() }}",
    "by the request": "{{ request.application.__globals__ }}",
    "by undefined": "{{ missing.__class__ }}",
    "by a bound method": "{{ value.append.__self__.__class__ }}",
    "by a method's function": "{{ text.upper.__func__ }}",
    "by a generator's frame": "{{ (value|map('upper')).gi_frame.f_globals }}",
    "by a function's code": "{{ function.__code__ }}",
    "by a function's globals": "{{ function.__globals__ }}",
    "by a coroutine's frame": "{{ function.cr_frame }}",
    "by a traceback": "{{ function.tb_frame }}",
    "by a method that changes": "{{ value.append(1) }}",
    "by clearing what is given": "{{ table.clear() }}",
    "by an update of what is given": "{{ table.update({'a': 2}) }}",
    "by popping": "{{ table.popitem() }}",
    "another template": "{% include 'evolver' %}",
    "a file": "{% include '/etc/passwd' %}",
    "a template by a name that is put together": "{% include '/etc/' ~ 'passwd' %}",
    "an import": "{% import 'os' as os %}",
    "a part of another": "{% extends '/etc/passwd' %}",
    "an endless range": "{{ range(10**9)|list }}",
    "an extension": "{% do value.append(1) %}",
    "debugging": "{% debug %}",
}


def function() -> None:
    """Something that can be called."""


@pytest.mark.parametrize("way", ESCAPES)
def test_no_way_out(way: str, tmp_path: Path) -> None:
    """Each is refused in words, or gives nothing but what it was given."""
    names = [name for name in ("value", "text", "table", "function") if name in ESCAPES[way]]
    given = {"value": ["a"], "text": "b", "table": {"a": 1}, "function": function}
    write(tmp_path, "bad", ESCAPES[way], ", ".join(names))
    try:
        text = PromptLibrary(packaged=tmp_path).render("bad", **{name: given[name] for name in names}).text
    except PromptError as error:
        assert str(tmp_path / "bad.md") in str(error)
    else:
        assert not any(leak in text for leak in ("<class", "<built-in", "<function", "<module", "root:", "uid=")), text
    assert given["value"] == ["a"] and given["table"] == {"a": 1}, "nothing that is given was changed"


def test_a_template_that_is_a_link_shows_no_other_file(tmp_path: Path) -> None:
    """A link is followed, and what is not a template is refused in words that do not repeat it."""
    secret = tmp_path / "secret"
    secret.write_text("the key is 5f3a9c1e\n")
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "bad.md").symlink_to(secret)
    with pytest.raises(PromptError) as caught:
        PromptLibrary(packaged=folder).render("bad")
    assert "5f3a9c1e" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/b", "..", "", "evolver\n", "Evolver", "evolver.md", "\x00"]
)
def test_no_name_leaves_the_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text("---\nname: secret\ndescription: d\nversion: 1\nvariables: []\n---\nsecret")
    (tmp_path / "prompts").mkdir()
    with pytest.raises(PromptError, match="is no name of a prompt"):
        PromptLibrary(packaged=tmp_path / "prompts").render(name)
