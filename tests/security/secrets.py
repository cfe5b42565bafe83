"""`python -m tests.security.secrets [FOLDER]`: keys and passwords in the files that git knows, found by detect-secrets.

Shapes of known kinds of keys are looked for everywhere; passwords, and long strings without any order, everywhere but
in tests and texts, which have made-up ones. A line that is looked at and holds none says `pragma: allowlist secret`.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from detect_secrets import SecretsCollection
from detect_secrets.settings import transient_settings

ROOT = Path(__file__).parents[2]
# Pictures, and figures of benchmarks, which are long rows of digits.
_NO_TEXT = {".png", ".ico"}
_FIGURES = "benchmarks/results/"
_SHAPES = (
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "DiscordBotTokenDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "JwtTokenDetector",
    "NpmDetector",
    "OpenAIDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
    "SendGridDetector",
    "SlackDetector",
    "StripeDetector",
    "TelegramBotTokenDetector",
    "TwilioKeyDetector",
)
_GUESSES: tuple[dict[str, Any], ...] = (
    {"name": "BasicAuthDetector"},
    {"name": "KeywordDetector"},
    {"name": "Base64HighEntropyString", "limit": 4.5},
    {"name": "HexHighEntropyString", "limit": 3.0},
)
_FILTERS = (
    "allowlist.is_line_allowlisted",
    "heuristic.is_indirect_reference",
    "heuristic.is_potential_uuid",
    "heuristic.is_sequential_string",
    "heuristic.is_templated_secret",
)


def tracked(root: Path) -> list[str]:
    """Text files that git knows, relative to `root`."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout.decode()
    names = [name for name in listed.split("\0") if (root / name).is_file()]
    return [name for name in names if Path(name).suffix not in _NO_TEXT and not name.startswith(_FIGURES)]


def scan(root: Path, names: Iterable[str]) -> list[str]:
    """What looks like a secret in these files, each in words that do not repeat it."""
    shapes: list[dict[str, Any]] = [{"name": name} for name in _SHAPES]
    parts = {True: list[str](), False: list[str]()}
    for name in names:
        parts[name.startswith("tests/") or name.endswith(".md")].append(name)
    said = list[str]()
    for made_up, some in parts.items():
        settings = {
            "plugins_used": [*shapes, *(() if made_up else _GUESSES)],
            "filters_used": [{"path": f"detect_secrets.filters.{name}"} for name in _FILTERS],
        }
        with transient_settings(settings):
            found = SecretsCollection(root=str(root))
            # In as many processes as there are cores.
            found.scan_files(*some)
        said += [f"{name}, line {secret.line_number}: looks like a secret ({secret.type})" for name, secret in found]
    return sorted(said)


def main(root: Path) -> int:
    """Name what looks like a secret; 1 where anything does."""
    try:
        names = tracked(root)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"Nothing was looked through for secrets: git does not list the files of {root} ({error}).")
        return 0
    found = scan(root, names)
    print("\n".join(found) if found else "No secrets in the files that git knows.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
