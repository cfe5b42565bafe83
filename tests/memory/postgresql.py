"""A real PostgreSQL server for tests, on a socket in its own folder; tests are skipped where there is none."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("initdb", "pg_ctl")


@contextmanager
def running_server() -> Iterator[str]:
    """The beginning of its URLs, to which the name of a database comes: `postgresql://.../{name}?host=...`."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"there is no PostgreSQL here: {', '.join(missing)} not found")
    # PostgreSQL refuses to run as root, and pytest's own folders are closed to others.
    folder = Path(tempfile.mkdtemp(prefix="penjing-pg-"))
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        as_user = {"user": "postgres", "group": user.pw_gid, "extra_groups": [], "cwd": folder}
    try:
        data = str(folder / "data")
        _run(["initdb", "-D", data, "-U", "penjing", "-A", "trust", "-E", "UTF8", "--no-sync"], as_user)
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        _run(["pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start"], as_user)
        try:
            yield f"postgresql://penjing@/{{name}}?host={folder}"
        finally:
            _run(["pg_ctl", "-D", data, "-m", "immediate", "stop"], as_user)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(command: list[str], as_user: dict[str, Any]) -> None:
    # Its children keep the output open.
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120, **as_user)
