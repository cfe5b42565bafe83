"""The command `penjing ui`: the page on this machine."""

import json
import socket
from pathlib import Path
from typing import Annotated, Any

import typer

from penjing.errors import reported_errors
from penjing.terminal import terminal

_HERE = ("127.0.0.1", "localhost", "::1")


def ui(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Where to serve; default a free one.")] = None,
    host: Annotated[str, typer.Option(help="The address to serve on.")] = "127.0.0.1",
    serve_without_login: Annotated[
        bool,
        typer.Option(
            "--serve-without-login",
            help="Serve on another address than 127.0.0.1, although whoever reaches it can read all runs, edit their "
            "prompts and decide on their designs.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document with the address on stdout before serving.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Serve the page: runs, live and finished, their trials, prompts and traces. Several people may look at once.

    It needs no internet and sends nothing anywhere. Stop it with Ctrl-C.

    [bold]Example[/bold]: penjing ui --port 8501
    """
    with reported_errors(as_json, debug):
        from tools.errors import InputError

        if host not in _HERE and not serve_without_login:
            raise InputError(
                f"The page has no login: on {host} whoever reaches it could read all runs and edit their prompts. "
                "Serve it on 127.0.0.1 and put a proxy with a login in front, or say --serve-without-login."
            )
        try:
            from streamlit.web import bootstrap
        except ModuleNotFoundError as error:
            raise InputError("Streamlit is missing: install penjing's ui extra (pip install '.[ui]').") from error

        chosen = _free_port(host, port)
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{chosen}"
        if as_json:
            print(json.dumps({"url": url}), flush=True)
        else:
            terminal().print(f"The page is at {url}; stop it with Ctrl-C.", highlight=False)
        options = _options(host, chosen)
        bootstrap.load_config_options(options)
        bootstrap.run(str(Path(__file__).parent / "page" / "app.py"), False, [], options)


def _options(host: str, port: int) -> dict[str, Any]:
    return {
        "server_address": host,
        "server_port": port,
        "server_headless": True,
        # Said here, since a config.toml in the working folder would else have its way.
        "server_enableCORS": True,
        "server_corsAllowedOrigins": [],
        "server_enableXsrfProtection": True,
        "server_enableAgentApi": False,
        # A name of somebody else's that points here (DNS rebinding) is not served. Where it is served to other
        # machines, only they know by which names.
        "server_allowedHosts": list(_HERE) if host in _HERE else [],
        "server_fileWatcherType": "none",
        "browser_gatherUsageStats": False,
        "client_toolbarMode": "viewer",
        "client_showErrorDetails": "type",
        "global_developmentMode": False,
        "logger_hideWelcomeMessage": True,
        "runner_magicEnabled": False,
        # Streamlit's red stands for errors and reads badly on its own tint.
        "theme_light_primaryColor": "#0b5cad",
        "theme_dark_primaryColor": "#8cc2ff",
        "theme_headingFontSizes": ["2.25rem", "1.5rem"],
    }


def _free_port(host: str, port: int | None) -> int:
    """The port, once it is known to be free. Raises InputError where it is taken or the address is not ours."""
    from tools.errors import InputError

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port or 0))
        except PermissionError as error:
            raise InputError(f"Port {port} needs rights that you do not have; name one above 1023.") from error
        except OSError as error:
            if port is not None:
                raise InputError(
                    f"Port {port} on {host} cannot be used ({error.strerror}): name another, or leave --port out."
                ) from error
            raise InputError(f"{host} is no address of this machine ({error.strerror}).") from error
        return int(probe.getsockname()[1])
