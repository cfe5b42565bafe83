"""What our sources may not do at all: unpickle, run texts or shells, build SQL from values, unpack archives."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("penjing", "graph", "agents", "memory", "tools", "prompts", "benchmarks", "examples")
# exec, pickle, marshal, mktemp, eval, unsafe URLs, XML, imports of pickle and its like, unverified TLS, yaml.load,
# shells in all their ways, SQL from strings, archives that are unpacked, Jinja without escaping.
RULES = "S102,S202,S301,S302,S306,S307,S310,S313,S314,S318,S323,S403,S501,S506,S602,S604,S605,S608,S609,S701"
KNOWN = {
    # Names of tables that stand in the same file.
    ("memory/migrations/versions/0006_forgotten_and_imported.py", "S608"),
    # The address is that of the server on loopback which was started before.
    ("tools/evaluation/llama_cpp_speed.py", "S310"),
    # What it renders is Markdown, by filters of its own.
    ("tools/export/card_rendering.py", "S701"),
}
FORBIDDEN_MODULES = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"),
    *("tarfile", "zipfile", "torch.package"),
}
FORBIDDEN_CALLS = {"torch.load", "torch.save", "shutil.unpack_archive", "os.system", "os.popen", "pandas.read_pickle"}
TRUST = {
    "penjing/compare_command.py",
    "penjing/evaluate_command.py",
    "tools/evaluation/evaluated_model.py",
    "tools/evaluation/saved.py",
}
"""What hands on what --trust-remote-code says; everywhere else a model's own code is not run."""


def sources() -> Iterator[tuple[str, ast.Module]]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def faults(tree: ast.Module) -> list[str]:
    """What a source does that none may."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            modules = names if isinstance(node, ast.Import) else [node.module or ""]
            found += [name for name in modules if name in FORBIDDEN_MODULES or name.split(".")[0] in FORBIDDEN_MODULES]
        if isinstance(node, ast.Call):
            name, given = dotted(node.func), {word.arg: word.value for word in node.keywords if word.arg}
            if name in FORBIDDEN_CALLS:
                found.append(name)
            if name in ("np.load", "numpy.load", "np.save", "numpy.save") and not _is(given.get("allow_pickle"), False):
                found.append(f"{name} without allow_pickle=False")
            if "shell" in given and not _is(given["shell"], False):
                found.append(f"{name} with shell=")
            if "pickle_fallback" in given and not _is(given["pickle_fallback"], False):
                found.append(f"{name} with pickle_fallback=")
    return found


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_no_source_does_what_none_may() -> None:
    assert {name: found for name, tree in sources() if (found := faults(tree))} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "import torch\ntorch.load('x')",
        "import torch\ntorch.load('x', weights_only=True)",
        "np.load('x')",
        "np.load('x', allow_pickle=True)",
        "subprocess.run('ls', shell=True)",
        "import os\nos.system('ls')",
        "import zipfile",
        "JsonPlusSerializer(pickle_fallback=True)",
    ],
)
def test_the_scan_sees_it(line: str) -> None:
    assert faults(ast.parse(line))


def test_ruff_sees_nothing_either_where_its_mutes_are_off() -> None:
    """`noqa` hides nothing here but what is known."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--preview", "--ignore-noqa", "--select", RULES]
    done = subprocess.run(
        [*command, "--target-version", "py311", "--output-format", "json", *FOLDERS],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stderr
    found = {
        (Path(one["filename"]).relative_to(ROOT).as_posix(), one.get("code") or one["name"])
        for one in json.loads(done.stdout)
    }
    assert found == KNOWN


def test_code_of_models_runs_only_where_it_was_allowed() -> None:
    """`trust_remote_code` is False wherever it is not what the user said."""
    handed_on = set()
    for name, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                given = {word.arg: word.value for word in node.keywords}
                if "trust_remote_code" in given and not _is(given["trust_remote_code"], False):
                    handed_on.add(name)
                loads = isinstance(node.func, ast.Attribute) and node.func.attr == "from_pretrained"
                if loads and "AutoModel" in dotted(node.func) and "gguf_file" not in given:
                    assert "trust_remote_code" in given, f"{name}: say trust_remote_code, also where it is False"
    assert handed_on == TRUST
