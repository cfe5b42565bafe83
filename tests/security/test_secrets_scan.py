"""The scan for secrets finds those that are planted, wherever they are."""

import base64
import random
import subprocess
from pathlib import Path

import pytest

from tests.security.secrets import main

CHANCE = random.Random(1)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def some(length: int) -> str:
    return "".join(CHANCE.choice(LETTERS) for _ in range(length))


# Put together here, so that this file holds none.
PLANTED = {
    "AWS": f"key = '{'AKIA'}{some(16)}'",
    "GitHub": f"token: {'ghp'}_{some(36)}",
    "OpenAI": f"OPENAI_API_KEY={'sk'}-{some(20)}{'T3Blbk'}FJ{some(20)}",
    "Private Key": "-----BEGIN " + "RSA PRIVATE KEY-----",
    "JSON Web Token": ".".join(
        base64.urlsafe_b64encode(part).decode().rstrip("=")
        for part in (b'{"alg":"HS256"}', b'{"sub":"1234"}', b"s" * 32)
    ),
}
GUESSED = {
    "Secret Keyword": "pass" + "word = 'correct-horse-battery'",
    "Basic Auth": "url = 'https://user:" + "hunter22@example.org/'",
    "Base64 High Entropy": f"seed = '{base64.b64encode(CHANCE.randbytes(48)).decode()}'",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / "tests").mkdir()
    return tmp_path


def plant(repository: Path, name: str, line: str) -> None:
    (repository / name).write_text(f"first = 1\n{line}\n")
    subprocess.run(["git", "add", name], cwd=repository, check=True)


@pytest.mark.parametrize("place", ["settings.py", "tests/test_any.py"])
@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_key_is_found(kind: str, place: str, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant(repository, place, PLANTED[kind])
    assert main(repository) == 1
    said = capsys.readouterr().out
    assert f"{place}, line 2: looks like a secret ({kind}" in said
    assert PLANTED[kind] not in said


@pytest.mark.parametrize("kind", GUESSED)
def test_a_planted_password_is_found_but_in_tests(kind: str, repository: Path) -> None:
    plant(repository, "tests/test_any.py", GUESSED[kind])
    assert main(repository) == 0
    plant(repository, "settings.py", GUESSED[kind])
    assert main(repository) == 1


def test_where_there_is_no_git_one_sentence_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path) == 0
    assert capsys.readouterr().out.startswith("Nothing was looked through for secrets: ")


def test_files_that_git_does_not_know_are_nobodys_business(repository: Path) -> None:
    (repository / "notes.txt").write_text(PLANTED["AWS"])
    assert main(repository) == 0
