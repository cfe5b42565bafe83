"""Whether the folders that `penjing` imports are its own: their names are general words that others use too."""

from importlib.util import find_spec
from pathlib import Path

FOLDERS = ("graph", "agents", "memory", "tools", "prompts")


class ShadowedFolderError(ImportError):
    """Another package has the name of one of our folders; the message says which and what to do."""


def require_own_folders() -> None:
    """Raises ShadowedFolderError where a folder of another package would be imported in place of ours."""
    ours = Path(__file__).resolve().parent.parent
    for name in FOLDERS:
        spec = find_spec(name)
        places = [] if spec is None else [Path(place).resolve() for place in spec.submodule_search_locations or []]
        if places != [ours / name]:
            found = spec.origin if spec is not None and spec.origin else "nothing"
            raise ShadowedFolderError(
                f"Another package named '{name}' ({found}) hides Penjing's folder {ours / name}: "
                "uninstall or move it, or run Penjing in an environment of its own (`make install`)."
            )
