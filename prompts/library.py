"""The loader of prompts: Markdown files with a YAML header, Jinja2 in a sandbox, the user's over the packaged ones.

A file looks like this::

    ---
    name: evolver
    description: Refines the current architecture
    version: 1
    variables: [current, strategies]
    answer: Proposal
    ---
    Current architecture: {{ current }}

Files are read again as soon as they change, so an edit steers a search that runs.
"""

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError

_PACKAGED = Path(__file__).parent
_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_log = logging.getLogger(__name__)


class PromptError(ValueError):
    """A prompt that cannot be used: its message names the file, the line where known, and the reason.

    The folders above show the message as it stands, like `tools.errors.InputError`.
    """

    def __init__(self, path: Path, reason: str, line: int | None = None) -> None:
        self.path = path
        self.reason = reason
        self.line = line
        super().__init__(f"{path}{f', line {line}' if line else ''}: {reason}")


class PromptHeader(BaseModel):
    """What the YAML header of a prompt says."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    name: str
    description: str
    version: str
    variables: tuple[str, ...] = Field(description="every variable that the body uses")
    answer: str | None = Field(None, description="name of the answer's schema")


@dataclass(frozen=True)
class RenderedPrompt:
    """A prompt as an agent sees it."""

    name: str
    hash: str
    """First 16 hexadecimal digits of the SHA-256 of the file's bytes: which version of the prompt this was."""
    text: str
    template: str
    """The whole file as it was, header included."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """What it was filled in with."""


@dataclass(frozen=True)
class _Loaded:
    path: Path
    stamp: tuple[int, int]
    header: PromptHeader
    hash: str
    source: str
    template: Template


@dataclass(frozen=True)
class _Body:
    tree: nodes.Template
    used: frozenset[str]
    """The variables that it needs."""
    template: Template


_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_ENVIRONMENT.globals.clear()


@lru_cache(maxsize=256)
def _compiled(text: str, name: str, path: Path) -> _Body:
    """Made once in a process, since each search and each look at a page opens a library. Raises PromptError."""
    try:
        tree = _ENVIRONMENT.parse(text)
        code = _ENVIRONMENT.compile(text, name=name, filename=str(path))
    except TemplateSyntaxError as error:
        raise PromptError(path, error.message or "syntax error", error.lineno) from error
    template = Template.from_code(_ENVIRONMENT, code, {}, None)
    return _Body(tree, frozenset(meta.find_undeclared_variables(tree)), template)


class PromptLibrary:
    """The packaged prompts, each replaced by the file of the same name in the user's folder where there is one.

    Those in `above` come before both; that folder may be made later, while the library is in use.
    A prompt of the user may use only variables that the packaged prompt of that name is given. A broken edit of a
    prompt that worked before is refused: the last good version stays and `problems` says what is wrong.

    Raises:
        PromptError: `overlay` is no folder.
    """

    def __init__(self, overlay: Path | None = None, *, above: Path | None = None, packaged: Path = _PACKAGED) -> None:
        if overlay is not None and not overlay.is_dir():
            raise PromptError(overlay, "there is no such folder of prompts; make it or leave the setting out")
        self._folders = [folder for folder in (above, overlay, packaged) if folder is not None]
        self._packaged = packaged
        self._good: dict[str, _Loaded] = {}
        self._problems: dict[str, PromptError] = {}

    @property
    def problems(self) -> dict[str, PromptError]:
        """Edits that were refused and still wait for a cure, by prompt."""
        return dict(self._problems)

    def names(self) -> tuple[str, ...]:
        """All prompts, packaged or the user's, sorted."""
        found = {path.stem for folder in self._folders for path in folder.glob("*.md")}
        return tuple(sorted(name for name in found if _NAME.fullmatch(name)))

    def header(self, name: str) -> PromptHeader:
        """What the prompt's header says. Raises PromptError as `render` does."""
        return self._current(name).header

    @property
    def packaged_folder(self) -> Path:
        """Where the prompts are that come with Penjing."""
        return self._packaged

    def packaged(self, name: str) -> Path:
        """The file that comes with Penjing. Raises PromptError where none of this name does."""
        path = self._packaged / f"{name}.md"
        if not _NAME.fullmatch(name) or not path.is_file():
            raise PromptError(self._packaged, f"no prompt {name!r} comes with Penjing; there are: {self._all()}")
        return path

    def hash(self, name: str) -> str:
        """Of the file in use, as rendered prompts have it. Raises PromptError as `render` does."""
        return self._current(name).hash

    def path(self, name: str) -> Path:
        """The file in use: the user's where there is one. Raises PromptError where there is none or the name is odd."""
        if not _NAME.fullmatch(name):
            raise PromptError(self._packaged, f"{name!r} is no name of a prompt (a-z, 0-9, _ and - only)")
        for folder in self._folders:
            if (folder / f"{name}.md").is_file():
                return folder / f"{name}.md"
        raise PromptError(self._packaged, f"there is no prompt {name!r}; there are: {self._all()}")

    def _all(self) -> str:
        return ", ".join(self.names()) or "none"

    def render(self, name: str, /, **variables: Any) -> RenderedPrompt:
        """Fills the prompt in; values are inserted as text and never rendered themselves.

        Raises:
            PromptError: no such prompt, a broken file, a variable that was not given, an error inside the template.
        """
        current = self._current(name)
        try:
            text = current.template.render(variables)
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise PromptError(current.path, str(error), _line_of(error, current.path)) from error
        return RenderedPrompt(name, current.hash, text.strip("\n"), current.source, variables)

    def _current(self, name: str) -> _Loaded:
        path, good = self.path(name), self._good.get(name)
        try:
            stamp = _stamp(path)
            loaded = good if good and (good.path, good.stamp) == (path, stamp) else self._load(name, path, stamp)
        except PromptError as error:
            if good is None:
                raise
            if str(error) != str(self._problems.get(name)):
                _log.warning("edit refused, the last good version stays: %s", error)
            self._problems[name] = error
            return good
        self._problems.pop(name, None)
        self._good[name] = loaded
        return loaded

    def _load(self, name: str, path: Path, stamp: tuple[int, int]) -> _Loaded:
        try:
            data = path.read_bytes()
            source = data.decode()
        except OSError as error:
            raise PromptError(path, f"cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise PromptError(path, f"not UTF-8 text ({error.reason} at byte {error.start})") from error
        header, body = _split(path, source)
        if header.name != name:
            raise PromptError(path, f"the header's name is {header.name!r} but the file's is {name!r}")
        compiled = _compiled(body, name, path)
        self._compare_variables(name, path, header, compiled)
        return _Loaded(path, stamp, header, hashlib.sha256(data).hexdigest()[:16], source, compiled.template)

    def _compare_variables(self, name: str, path: Path, header: PromptHeader, body: _Body) -> None:
        if any(True for _ in meta.find_referenced_templates(body.tree)):
            raise PromptError(path, "a prompt is one file: include, import and extends are not available")
        used = body.used
        for missing in sorted(used - set(header.variables)):
            line = next((node.lineno for node in body.tree.find_all(nodes.Name) if node.name == missing), None)
            raise PromptError(path, f"{missing!r} is used but not among the variables of the header", line)
        for spare in sorted(set(header.variables) - used):
            raise PromptError(path, f"{spare!r} is among the variables of the header but not used; take it out")
        packaged = self._packaged / path.name
        if path != packaged and packaged.is_file():
            given = _split(packaged, packaged.read_text(encoding="utf-8"))[0].variables
            for unknown in sorted(used - set(given)):
                raise PromptError(path, f"{unknown!r} is not given to {name!r}; given are: {', '.join(given)}")


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise PromptError(path, f"cannot be read ({error.strerror})") from error
    return status.st_mtime_ns, status.st_size


def _split(path: Path, source: str) -> tuple[PromptHeader, str]:
    """Header and body; the body keeps the header's lines as empty ones, so that line numbers are the file's."""
    lines = source.splitlines()
    if not lines or lines[0].rstrip() != "---":
        raise PromptError(path, "a prompt begins with a YAML header between two lines of ---", 1)
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        raise PromptError(path, "the header has no closing line of ---", 1)
    try:
        values = yaml.safe_load("\n".join(lines[1:end]))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 2 if error.problem_mark else None
        raise PromptError(path, f"the header is not YAML: {error.problem}", line) from error
    except yaml.YAMLError as error:
        raise PromptError(path, f"the header is not YAML: {error}") from error
    try:
        header = PromptHeader.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "header"
        line = next((n for n, text in enumerate(lines[:end], 1) if text.startswith(f"{key.split('.')[0]}:")), None)
        raise PromptError(path, f"header, {key}: {first['msg']}", line) from error
    return header, "\n" * (end + 1) + "\n".join(lines[end + 1 :])


def _line_of(error: BaseException, path: Path) -> int | None:
    """The line of the template in which an error of rendering arose: Jinja2 writes it into the traceback."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
