"""The connection to a Ray cluster: opened for the first request, shared by all that work in this process."""

import importlib.util
import logging
import os
import socket
import threading
from typing import Any

from tools.errors import InputError

_CONNECT_SECONDS = 10.0
_OBJECT_STORE_BYTES = 100 * 2**20
"""Ray keeps a third of the memory for objects by default; what goes through it here are a few kilobytes of JSON."""


class RayCluster:
    """`address` of a cluster, `auto` for the one that this machine belongs to; None starts one of this machine alone.

    A connection that this process has already, a program's own, is used and left open.
    """

    _lock = threading.Lock()
    _users = 0

    def __init__(self, address: str | None) -> None:
        if importlib.util.find_spec("ray") is None:
            raise InputError(
                "workers=ray needs the package ray: install Penjing with its extra, uv pip install -e '.[ray]'."
            )
        self._address, self._open = address, False

    def connect(self) -> Any:
        """The module `ray`, connected. Takes seconds at first. Raises InputError where no cluster answers."""
        # What Ray would send about its use goes nowhere.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Its handler would print a stack for every signal that ends a search in an orderly way.
        os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")
        # A trial that asks for no GPU sees none, whatever a later version of Ray does by default.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
        import ray

        with RayCluster._lock:
            if self._open:
                return ray
            if not ray.is_initialized():
                self._start(ray)
                RayCluster._users = 1
            elif RayCluster._users:
                RayCluster._users += 1
            self._open = True
        return ray

    def _start(self, ray: Any) -> None:
        quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
        if self._address is None:
            # Without "local" it would join a cluster that somebody has started on this machine.
            ray.init(address="local", object_store_memory=_OBJECT_STORE_BYTES, **quiet)
            return
        self._require_answer()
        _give_token()
        try:
            ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            if "token" in f"{error} {error.__cause__} {error.__context__}".lower():
                raise InputError(
                    f"workers=ray:{self._address} asks for another token: put the one of its head node, "
                    "~/.ray/auth_token, into the same file here."
                ) from error
            first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise InputError(
                f"workers=ray:{self._address} reaches no Ray cluster ({first}): see `ray status`, or start one with "
                "`ray start --head`."
            ) from error

    def _require_answer(self) -> None:
        """Ray itself tries an address for minutes."""
        host, _, port = (self._address or "").removeprefix("ray://").rpartition(":")
        if not host or not port.isdigit():
            return
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
        except OSError as error:
            raise InputError(
                f"workers=ray:{self._address} cannot be reached ({error.strerror or error}): see that a cluster runs "
                "there (`ray start --head`), and that this machine may speak to it."
            ) from error

    def close(self) -> None:
        """Disconnect, if nobody else here works on it; a cluster that was started here ends with that."""
        with RayCluster._lock:
            if not self._open:
                return
            self._open = False
            if not RayCluster._users:
                return
            RayCluster._users -= 1
            if not RayCluster._users:
                import ray

                ray.shutdown()


def _give_token() -> None:
    """Have Ray use the token that is here, which its clusters ask for; one that asks for none takes no notice of it.

    For an address Ray would not do so by itself.
    """
    try:
        from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
    except ImportError:
        # Ray before 2.60, which asks for none.
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
