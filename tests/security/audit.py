"""`python -m tests.security.audit [REQUIREMENTS]`: known vulnerabilities of the packages that we install.

pip-audit asks the advisories of OSV about every pinned package. Where these cannot be reached, one sentence says so and
nothing fails: the audit is for machines with a network.
"""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

ADVISORIES = "https://api.osv.dev/v1/query"
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
PROBE_SECONDS = 5.0
MOST_SECONDS = 240.0
ACCEPTED: dict[str, str] = {}
"""Advisories that do not concern us, each with the reason."""


def unreachable(advisories: str) -> str:
    """Why the advisories cannot be asked; empty where they can."""
    question = json.dumps({"package": {"name": "pip", "ecosystem": "PyPI"}, "version": "26.0"}).encode()
    request = urllib.request.Request(advisories, question, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=PROBE_SECONDS) as answer:  # noqa: S310
            json.loads(answer.read())
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", "")) or str(error) or type(error).__name__
    return ""


def audit(requirements: Path, advisories: str = ADVISORIES) -> int:
    """Say what is known of the packages in `requirements`; 1 where any has a vulnerability, else 0."""
    if why := unreachable(advisories):
        print(f"The packages were not audited: {advisories} cannot be reached ({why}).")
        return 0
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--timeout", "15"]
    command += ["--vulnerability-service", "osv", "--osv-url", advisories, "--requirement", str(requirements)]
    command += ["--no-deps", "--disable-pip", *(part for name in ACCEPTED for part in ("--ignore-vuln", name))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MOST_SECONDS, check=False)
        packages = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError) as error:
        print(f"The packages were not audited: pip-audit came to no result ({type(error).__name__}).")
        return 0
    audited = [package for package in packages if "skip_reason" not in package]
    found = [(package, vulnerability) for package in audited for vulnerability in package["vulns"]]
    for package, vulnerability in found:
        mended = ", ".join(vulnerability["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']} has {vulnerability['id']}, mended in {mended}.")
    print(f"{len(audited)} of {len(packages)} packages audited, {len(found)} known vulnerabilities.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(audit(Path(sys.argv[1]) if len(sys.argv) > 1 else CONSTRAINTS))
